//! A share of a sweep's trials, for processes that divide them without talking to each other: the jobs of a Slurm array,
//! or those that GNU parallel starts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Every `of`-th trial from number `part` on, both counted from 1; as text "2/8".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share {
    part: usize,
    of: usize,
}

impl Share {
    /// Part `part` of `of`, counted from 1.
    ///
    /// # Errors
    /// [`Error::Setting`] unless 1 ≤ `part` ≤ `of`.
    pub fn new(part: usize, of: usize) -> Result<Share> {
        if part == 0 || part > of {
            return Err(wrong(&format!("{part}/{of}")));
        }
        Ok(Share { part, of })
    }

    /// Whether a trial, counted from 0, belongs to it. Consecutive trials go to different shares, so that shares of a
    /// random search cover the space alike.
    pub fn has(self, trial: usize) -> bool {
        trial % self.of == self.part - 1
    }

    /// What the folder of such a sweep is called after the sweep's name, such as "-2-of-8".
    pub fn suffix(self) -> String {
        format!("-{}-of-{}", self.part, self.of)
    }
}

fn wrong(got: &str) -> Error {
    Error::setting("search.only", "a part of the trials such as 2/8, from 1/8 to 8/8", got)
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Share> {
        let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        let (part, of) = numbers.ok_or_else(|| wrong(text))?;
        Share::new(part, of)
    }
}

impl TryFrom<String> for Share {
    type Error = Error;

    fn try_from(text: String) -> Result<Share> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> String {
        share.to_string()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    #[test]
    fn shares_divide_all_trials() {
        let shares: Vec<Share> = (1..=3).map(|part| Share::new(part, 3).unwrap()).collect();
        for trial in 0..10 {
            assert_eq!(shares.iter().filter(|share| share.has(trial)).count(), 1, "trial {trial}");
        }
        assert!(shares[0].has(0) && shares[1].has(1) && shares[2].has(2));
    }

    #[test]
    fn a_share_reads_back_what_it_writes_and_refuses_the_rest() {
        let share: Share = "2/8".parse().unwrap();
        assert_eq!((share.to_string().as_str(), share.suffix().as_str()), ("2/8", "-2-of-8"));
        for text in ["0/8", "9/8", "2", "2/", "/8", "a/b", "-1/8", "1/0", ""] {
            let error = text.parse::<Share>().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("2/8"), "{text}: {error}");
        }
    }
}
