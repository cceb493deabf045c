//! One thread, one readiness poll: the reactor.

fn main() {}
