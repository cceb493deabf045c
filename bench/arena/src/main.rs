//! arena.

fn main() {}
