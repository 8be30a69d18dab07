//! The engine with libtorch, end to end.
