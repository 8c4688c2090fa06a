//! Several runs side by side: a table, and their curves in one picture.

use std::collections::BTreeSet;

use super::plots::{LinePlot, Picture, Series, stacked_plots};
use crate::columns::columns;
use crate::train::{EpochReport, History};
use crate::{Error, Result};

/// A setting that not all runs share, or a table of settings that not all of them have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferingSetting {
    /// Its dotted name.
    pub name: String,
    /// What each run has it as: for a table, what differs between the runs that have it, or whether they have it. A
    /// dash where a run has nothing of the kind.
    pub values: Vec<String>,
}

/// Runs to compare.
#[derive(Clone, Debug)]
pub struct Comparison {
    runs: Vec<History>,
}

impl Comparison {
    /// Compares these runs.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is none.
    pub fn of(runs: Vec<History>) -> Result<Comparison> {
        if runs.is_empty() {
            return Err(Error::setting("compare", "at least one run", "none"));
        }
        Ok(Comparison { runs })
    }

    /// The runs, in the order they were given.
    pub fn runs(&self) -> &[History] {
        &self.runs
    }

    /// What the runs are called: their folders, without the time where that tells them apart.
    fn names(&self) -> Vec<String> {
        let short: BTreeSet<&str> = self.runs.iter().map(|run| without_time(&run.name)).collect();
        let is_enough = short.len() == self.runs.len();
        let name = |run: &History| if is_enough { without_time(&run.name).to_owned() } else { run.name.clone() };
        self.runs.iter().map(name).collect()
    }

    /// The settings that not all runs share; their names aside, which every table has beside its rows.
    pub fn differing_settings(&self) -> Vec<DifferingSetting> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, _) in self.runs.iter().flat_map(|run| &run.settings) {
            if name == "name" || self.runs.iter().all(|run| setting(run, name) == setting(&self.runs[0], name)) {
                continue;
            }
            let table = name.split('.').next().unwrap_or(name);
            match groups.iter_mut().find(|(known, _)| *known == table) {
                Some((_, names)) if names.contains(&name.as_str()) => {}
                Some((_, names)) => names.push(name),
                None => groups.push((table, vec![name])),
            }
        }
        groups.into_iter().flat_map(|(table, names)| self.columns_of(table, &names)).collect()
    }

    /// A column for each setting of a table; one for all of them where not all runs have the same ones, as when one run
    /// stops early and another does not, since most cells would say nothing then.
    fn columns_of(&self, table: &str, names: &[&str]) -> Vec<DifferingSetting> {
        let has_all = |run: &History| names.iter().all(|name| setting(run, name).is_some());
        if names.len() == 1 || self.runs.iter().all(has_all) {
            let values = |name: &str| -> Vec<String> {
                let value = |run: &History| setting(run, name).unwrap_or("–").to_owned();
                self.runs.iter().map(value).collect()
            };
            let column = |name: &&str| DifferingSetting { name: (*name).to_owned(), values: values(name) };
            return names.iter().map(column).collect();
        }
        let values_of = |name: &str| -> Vec<&str> { self.runs.iter().filter_map(|run| setting(run, name)).collect() };
        let varies = |name: &&&str| values_of(name).windows(2).any(|pair| pair[0] != pair[1]);
        let varying: Vec<&str> = names.iter().filter(varies).copied().collect();
        let value = |run: &History| {
            let words: Vec<String> =
                varying.iter().filter_map(|name| Some(describe(name, setting(run, name)?))).collect();
            match setting(run, table) {
                Some("false") => "no".to_owned(),
                Some(value) => value.to_owned(),
                None if !words.is_empty() => words.join(", "),
                None if names.iter().any(|name| setting(run, name).is_some()) => "yes".to_owned(),
                None => "–".to_owned(),
            }
        };
        vec![DifferingSetting { name: table.to_owned(), values: self.runs.iter().map(value).collect() }]
    }

    /// The table as rows of cells, its head first.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let (differing, names) = (self.differing_settings(), self.names());
        let mut head: Vec<String> = vec!["run".to_owned()];
        head.extend(differing.iter().map(|setting| setting.name.clone()));
        head.extend(
            ["epochs run", "best epoch", "val loss", "val acc", "train acc", "test loss", "test acc"]
                .map(str::to_owned),
        );
        let mut rows = vec![head];
        for (index, run) in self.runs.iter().enumerate() {
            let best = run.best();
            let percent = |share: f64| format!("{:.2}%", 100.0 * share);
            let mut row = vec![names[index].clone()];
            row.extend(differing.iter().map(|setting| setting.values[index].clone()));
            row.extend([run.epochs.len().to_string(), best.epoch.to_string(), format!("{:.4}", best.val_loss)]);
            row.extend([percent(best.val_accuracy), percent(best.train_accuracy)]);
            let outcome = run.outcome.as_ref();
            row.push(outcome.map_or("–".to_owned(), |outcome| format!("{:.4}", outcome.test_loss)));
            row.push(outcome.map_or("–".to_owned(), |outcome| percent(outcome.test_accuracy)));
            rows.push(row);
        }
        rows
    }

    /// The table in columns for a terminal: the settings that differ, then the metrics at the best epoch.
    pub fn table(&self) -> String {
        columns(&self.rows())
    }

    /// The same table in Markdown.
    pub fn markdown(&self) -> String {
        let line = |row: &Vec<String>| {
            format!("| {} |\n", row.iter().map(|text| text.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let rows = self.rows();
        let rule = format!("| --- |{}\n", " ---: |".repeat(rows[0].len() - 1));
        line(&rows[0]) + &rule + &rows[1..].iter().map(line).collect::<String>()
    }

    /// Validation loss, validation accuracy and training loss of all runs, overlaid. A run is named by the settings
    /// that set it apart where there are few, else by its folder.
    pub fn curves(&self) -> Picture {
        let differing = self.differing_settings();
        let folders = self.names();
        let named = |index: usize| {
            let words = differing.iter().map(|setting| describe(&setting.name, &setting.values[index]));
            if differing.is_empty() || differing.len() > 3 {
                folders[index].clone()
            } else {
                words.collect::<Vec<_>>().join(", ")
            }
        };
        let mut names: Vec<String> = (0..self.runs.len()).map(named).collect();
        for index in 0..names.len() {
            if names[..index].contains(&names[index]) {
                names[index].clone_from(&folders[index]);
            }
        }
        let series = |value: fn(&EpochReport) -> f64| -> Vec<Series> {
            let points = |run: &History| run.epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect();
            self.runs.iter().zip(&names).map(|(run, name)| Series { name: name.clone(), points: points(run) }).collect()
        };
        let plot = |title: &str, y_label: &str, series: Vec<Series>| LinePlot {
            title: title.to_owned(),
            x_label: "epoch".to_owned(),
            y_label: y_label.to_owned(),
            series,
            whole_x: true,
            ..LinePlot::default()
        };
        // The names once are enough.
        let unnamed = |all: Vec<Series>| all.into_iter().map(|line| Series { name: String::new(), ..line }).collect();
        let loss = plot("Validation loss", "loss", series(|epoch| epoch.val_loss));
        let accuracy = plot("Validation accuracy", "accuracy", unnamed(series(|epoch| epoch.val_accuracy)));
        let training = plot("Training loss", "loss", unnamed(series(|epoch| epoch.train_loss)));
        stacked_plots(&[(&loss, 260.0), (&accuracy, 260.0), (&training, 260.0)])
    }
}

/// "momentum 0.9" for `optimizer.momentum`; the kind of something says what it is by itself.
fn describe(name: &str, value: &str) -> String {
    match name.rsplit('.').next() {
        Some("kind") | None => value.to_owned(),
        Some(last) => format!("{last} {value}"),
    }
}

/// A run folder's name without the time that it begins with.
fn without_time(name: &str) -> &str {
    let is_time = |(index, c): (usize, char)| if matches!(index, 8 | 15) { c == '-' } else { c.is_ascii_digit() };
    if name.chars().count() > 16 && name.chars().take(16).enumerate().all(is_time) { &name[16..] } else { name }
}

fn setting<'a>(run: &'a History, name: &str) -> Option<&'a str> {
    run.settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, settings: &[(&str, &str)]) -> History {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        History {
            path: name.into(),
            name: name.to_owned(),
            settings,
            epochs: Vec::new(),
            diagnostics: Vec::new(),
            outcome: None,
        }
    }

    fn columns_of(runs: Vec<History>) -> Vec<(String, Vec<String>)> {
        let differing = Comparison { runs }.differing_settings();
        differing.into_iter().map(|setting| (setting.name, setting.values)).collect()
    }

    #[test]
    fn a_table_that_not_all_runs_have_is_one_column() {
        let stops = [("lr", "0.1"), ("early_stopping.patience", "5"), ("early_stopping.monitor", "val_loss")];
        let never = [("lr", "0.01"), ("early_stopping", "false")];
        let later = [("lr", "0.1"), ("early_stopping.patience", "9"), ("early_stopping.monitor", "val_loss")];
        let two = columns_of(vec![run("a", &stops), run("b", &never)]);
        assert_eq!(two[0], ("lr".to_owned(), vec!["0.1".to_owned(), "0.01".to_owned()]));
        assert_eq!(two[1], ("early_stopping".to_owned(), vec!["yes".to_owned(), "no".to_owned()]));
        let three = columns_of(vec![run("a", &stops), run("b", &never), run("c", &later)]);
        assert_eq!(three[1].1, ["patience 5", "no", "patience 9"]);
        let same_keys = columns_of(vec![run("a", &stops), run("c", &later)]);
        assert_eq!(same_keys, [("early_stopping.patience".to_owned(), vec!["5".to_owned(), "9".to_owned()])]);

        let constant = [("schedule.kind", "constant")];
        let plateau = [("schedule.kind", "plateau"), ("schedule.factor", "0.1"), ("schedule.patience", "2")];
        let schedules = columns_of(vec![run("a", &constant), run("b", &plateau)]);
        assert_eq!(schedules, [("schedule".to_owned(), vec!["constant".to_owned(), "plateau".to_owned()])]);
    }

    #[test]
    fn runs_are_called_by_what_tells_them_apart() {
        let names = |names: [&str; 2]| Comparison { runs: names.map(|name| run(name, &[])).to_vec() }.names();
        assert_eq!(names(["20261122-021205-plateau", "20261122-021208-dropout"]), ["plateau", "dropout"]);
        let same = ["20261122-021205-lenet5", "20261122-021208-lenet5"];
        assert_eq!(names(same), same);
    }
}
