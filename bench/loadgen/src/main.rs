//! loadgen.

fn main() {}
