//! The variables of the environment that devices heed, checked where one is chosen or a program compiled for a CPU: a value
//! that means nothing is an error there. What reads them later takes it for none.

use crate::ops::cpu::isa;
use crate::ops::cpu::threads::MAX_THREADS;
use crate::{Error, Result};

/// Checks the variables.
///
/// # Errors
/// [`Error::Setting`] naming the variable.
pub(super) fn check() -> Result<()> {
    check_in(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

fn check_in(variable: impl Fn(&str) -> Option<String>) -> Result<()> {
    let value = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    for (name, words) in [("WGRAD_CPU", &isa::NAMES[..]), ("WGRAD_SHADER_CHECKS", &["on", "off"])] {
        if let Some(wanted) = value(name).filter(|wanted| !words.contains(&wanted.as_str())) {
            return Err(Error::setting(name, crate::error::alternatives(words), wanted));
        }
    }
    // To Rayon 0 means as many threads as there are cores.
    for (name, least) in [("WGRAD_THREADS", 1), ("RAYON_NUM_THREADS", 0)] {
        let fits = |value: &String| value.parse().is_ok_and(|count| (least..=MAX_THREADS).contains(&count));
        if let Some(wanted) = value(name).filter(|value| !fits(value)) {
            return Err(Error::setting(name, format!("a number of threads from {least} to {MAX_THREADS}"), wanted));
        }
    }
    let is_count = |value: &String| value.parse::<usize>().is_ok_and(|count| count > 0);
    if let Some(wanted) = value("WGRAD_BATCH_TILE").filter(|value| !is_count(value)) {
        return Err(Error::setting("WGRAD_BATCH_TILE", "a number of images of at least 1", wanted));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_mean_nothing_are_named() {
        let check = |name: &str, value: &str| check_in(|asked| (asked == name).then(|| value.to_owned()));
        let sound = [
            ("WGRAD_CPU", "portable"),
            ("WGRAD_CPU", " avx2 "),
            ("WGRAD_CPU", ""),
            ("WGRAD_THREADS", "1"),
            ("WGRAD_THREADS", "1024"),
            ("RAYON_NUM_THREADS", "0"),
            ("WGRAD_BATCH_TILE", "5"),
            ("WGRAD_SHADER_CHECKS", "off"),
            ("WGRAD_SOMETHING_ELSE", "x"),
        ];
        for (name, value) in sound {
            assert!(check(name, value).is_ok(), "{name}={value}");
        }
        let wrong = [
            ("WGRAD_CPU", "foo", "portable, avx2, avx512 or neon"),
            ("WGRAD_SHADER_CHECKS", "none", "on or off"),
            ("WGRAD_THREADS", "x", "a number of threads from 1 to 1024"),
            ("WGRAD_THREADS", "0", "a number of threads from 1 to 1024"),
            ("WGRAD_THREADS", "-1", "a number of threads from 1 to 1024"),
            ("WGRAD_THREADS", "100000", "a number of threads from 1 to 1024"),
            ("RAYON_NUM_THREADS", "two", "a number of threads from 0 to 1024"),
            ("WGRAD_BATCH_TILE", "0", "a number of images of at least 1"),
        ];
        for (name, value, expected) in wrong {
            let error = check(name, value).expect_err("the value means nothing");
            assert!(error.is_usage());
            assert_eq!(error.to_string(), format!("{name}: expected {expected}, got {value}"));
        }
    }
}
