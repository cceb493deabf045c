//! A fixed number of processes made ahead, all waiting in accept.

fn main() {}
