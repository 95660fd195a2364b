//! The tool that the tests run: it does what its arguments say, in order.
fn main() {}
