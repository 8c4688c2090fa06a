//! The library's errors in the words of the command line: `optimizer.weight_decay` is `--weight-decay` in them.

use wgrad::Error;
use wgrad::run::settings::{self, Choice, SECTIONS};

use super::flags::{flag_name, flags};

/// Names a setting by its flag, where it has one.
pub fn as_flag(error: Error) -> Error {
    match error {
        Error::Setting { setting, expected, got } => {
            let Some(path) = path_of(&setting) else {
                return Error::Setting { setting: plain(setting), expected, got };
            };
            let (expected, got) = (flags_in(&expected), flags_in(&got));
            let choice = settings::choice(path.split('.').next().unwrap_or(&path));
            let (expected, got) = match choice {
                Some(choice) => (with_flag(&expected, choice), with_flag(&got, choice)),
                None => (expected, got),
            };
            Error::Setting { setting: format!("--{}", flag_name(&path)), expected, got }
        }
        other => other,
    }
}

/// Names the flag of a choice and its values as flags are spelled: "only with schedule multi_step" is about
/// `--scheduler multi-step`.
fn with_flag(text: &str, choice: &Choice) -> String {
    let flag = format!("--{} ", flag_name(choice.name));
    let text = text.replace(&format!("with {} ", choice.name), &format!("with {flag}"));
    let text = text.strip_prefix(&format!("{} ", choice.name)).map_or(text.clone(), |rest| format!("{flag}{rest}"));
    let text = switched_off(text);
    choice.entries.iter().fold(text, |text, entry| text.replace(entry.name, &entry.name.replace('_', "-")))
}

/// Spells "cycle_momentum = false" as the flag, `--no-cycle-momentum`.
fn switched_off(text: String) -> String {
    let Some((before, after)) = text.split_once(" = false") else { return text };
    let (before, name) = before.rsplit_once(' ').unwrap_or(("", before));
    format!("{before} --no-{}{after}", name.replace('_', "-"))
}

/// Names other settings that a message speaks of by their flags too: "the stages that network.widths has".
fn flags_in(text: &str) -> String {
    let is_in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    let mut named = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_in_name) {
        let end = rest[start..].find(|c| !is_in_name(c)).map_or(rest.len(), |length| start + length);
        let word = rest[start..end].trim_end_matches('.');
        // What is set in the message is for `switched_off`.
        let is_set = rest[start + word.len()..].starts_with(" = ");
        let path = (word.contains(['_', '.']) && !is_set).then(|| path_of(word)).flatten();
        named += &rest[..start];
        named += &path.map_or_else(|| word.to_owned(), |path| format!("--{}", flag_name(&path)));
        rest = &rest[start + word.len()..];
        // A lone dot is no word, and would be found again.
        if word.is_empty() {
            named.push('.');
            rest = &rest[1..];
        }
    }
    named + rest
}

/// A name that no setting has: an option of the subcommand's own, if it looks like one.
fn plain(name: String) -> String {
    let is_word = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    if is_word { format!("--{}", name.replace('_', "-")) } else { name }
}

/// The dotted name of a setting, called by it or, as types that know nothing of a run call theirs, by the last part
/// of it.
fn path_of(setting: &str) -> Option<String> {
    // An index into a list, as of betas, is no part of a name.
    let setting = setting.split('[').next().unwrap_or(setting);
    let all = SECTIONS.iter().flat_map(|section| {
        let choices = section.choices.iter().map(|choice| choice.name.to_owned());
        choices.chain(flags(section).into_iter().map(|flag| flag.path)).collect::<Vec<_>>()
    });
    let all: Vec<String> = all.collect();
    let is_meant = |path: &&String| *path == setting || path.rsplit('.').next() == Some(setting);
    all.iter().find(|path| *path == setting).or_else(|| all.iter().find(is_meant)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_speak_of_flags() {
        let told = |setting: &str, expected: &str, got: &str| {
            let [setting, expected, got] = [setting, expected, got].map(str::to_owned);
            as_flag(Error::Setting { setting, expected, got }).to_string()
        };
        let text = told("network.convolutions", "one for each of the 2 stages that network.widths has", "3");
        assert_eq!(text, "--convolutions: expected one for each of the 2 stages that --widths has, got 3");
        let text = told("optimizer.eps", "above 0. Not at most train_limit...", "0.5");
        assert_eq!(text, "--eps: expected above 0. Not at most --train-limit..., got 0.5");
        let text = told("schedule", "a momentum to cycle, or cycle_momentum = false", "none");
        assert_eq!(text, "--scheduler: expected a momentum to cycle, or --no-cycle-momentum, got none");
        assert!(told("schedule.eps", "at least 0", "-1").starts_with("--scheduler-eps: "));
    }
}
