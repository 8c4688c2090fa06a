//! Answers to the page: `{"ok": …}` or `{"error": {…}}`, as JSON.

use serde::Serialize;
use wgrad::{Error, Result};

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer<T> {
    Ok(T),
    Error(Failure),
}

/// What went wrong, and what the page does about it.
#[derive(Serialize)]
struct Failure {
    message: String,
    /// The setting that is wrong, by its dotted name.
    setting: Option<String>,
    /// Whether the run was stopped on request, and so is saved.
    interrupted: bool,
    /// Whether the device is gone.
    lost: bool,
}

/// The answer of a call.
pub fn answer<T: Serialize>(result: Result<T>) -> String {
    let answer = match result {
        Ok(value) => Answer::Ok(value),
        Err(error) => Answer::Error(failure(&error)),
    };
    // serde_json writes null for numbers that JSON cannot hold.
    serde_json::to_string(&answer).expect("answers have string keys")
}

fn failure(error: &Error) -> Failure {
    let setting = match error {
        Error::Setting { setting, .. } => Some(setting.clone()),
        _ => None,
    };
    Failure {
        message: error.to_string(),
        setting,
        interrupted: matches!(error, Error::Interrupted { .. }),
        lost: matches!(error, Error::DeviceLost { .. }),
    }
}

/// The error of a value that a call was given.
pub fn wrong(what: &str, expected: &str, got: impl ToString) -> Error {
    Error::Setting { setting: what.to_owned(), expected: expected.to_owned(), got: got.to_string() }
}
