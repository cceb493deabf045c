//! A fixed number of threads made ahead, fed by a queue.

fn main() {}
