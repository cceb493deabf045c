//! floor.

fn main() {}
