//! A forked process for each connection.

fn main() {}
