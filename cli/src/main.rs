//! The binary `studios`.
fn main() {}
