//! One connection after another.

fn main() {}
