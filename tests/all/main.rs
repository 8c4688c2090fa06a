//! The integration tests, one binary: what the library promises to someone who only sees its public items.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]

mod data;
