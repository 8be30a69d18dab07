//! All black-box tests, one module per promise.

mod corpus;
