//! A thread for each connection.

fn main() {}
