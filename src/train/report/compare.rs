//! Several runs side by side: a table, and their curves in one picture.

use std::path::Path;

use super::plots::{LinePlot, Picture, Series, stacked_plots};
use super::run::Run;
use crate::train::EpochReport;
use crate::{Error, Result};

/// Runs to compare.
#[derive(Clone, Debug)]
pub struct Comparison {
    runs: Vec<Run>,
}

impl Comparison {
    /// Reads the folders.
    ///
    /// # Errors
    /// As [`Run::read`], for the first folder that cannot be read; [`Error::Config`] where there is none.
    pub fn read(folders: &[impl AsRef<Path>]) -> Result<Comparison> {
        if folders.is_empty() {
            return Err(Error::config("compare", "at least one run folder", "none"));
        }
        let runs = folders.iter().map(|folder| Run::read(folder.as_ref())).collect::<Result<_>>()?;
        Ok(Comparison { runs })
    }

    /// The runs, in the order they were given.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The settings that not all runs share, by name; what a run does not set is a dash.
    pub fn differing_settings(&self) -> Vec<String> {
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in self.runs.iter().flat_map(|run| &run.settings) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let differs = |name: &&&String| self.runs.iter().any(|run| setting(run, name) != setting(&self.runs[0], name));
        names.iter().filter(differs).map(|name| (*name).clone()).collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let differing = self.differing_settings();
        let mut head: Vec<String> = vec!["run".to_owned()];
        head.extend(differing.iter().cloned());
        head.extend(
            ["epochs", "best epoch", "val loss", "val acc", "train acc", "test loss", "test acc"].map(str::to_owned),
        );
        let mut rows = vec![head];
        for run in &self.runs {
            let best = run.best();
            let percent = |share: f64| format!("{:.2}%", 100.0 * share);
            let mut row = vec![run.name.clone()];
            row.extend(differing.iter().map(|name| setting(run, name).unwrap_or("–").to_owned()));
            row.extend([run.epochs.len().to_string(), best.epoch.to_string(), format!("{:.4}", best.val_loss)]);
            row.extend([percent(best.val_accuracy), percent(best.train_accuracy)]);
            let outcome = run.outcome.as_ref();
            row.push(outcome.map_or("–".to_owned(), |outcome| format!("{:.4}", outcome.test_loss)));
            row.push(outcome.map_or("–".to_owned(), |outcome| percent(outcome.test_accuracy)));
            rows.push(row);
        }
        rows
    }

    /// The table in columns for a terminal: the settings that differ, then the scores at the best epoch.
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
        let named = |run: &Run| {
            let words = differing.iter().map(|name| {
                let short = name.rsplit('.').next().unwrap_or(name);
                format!("{short} {}", setting(run, name).unwrap_or("–"))
            });
            if differing.is_empty() || differing.len() > 3 {
                run.name.clone()
            } else {
                words.collect::<Vec<_>>().join(", ")
            }
        };
        let mut names: Vec<String> = self.runs.iter().map(named).collect();
        for index in 0..names.len() {
            if names[..index].contains(&names[index]) {
                names[index] = self.runs[index].name.clone();
            }
        }
        let series = |value: fn(&EpochReport) -> f64| -> Vec<Series> {
            let points = |run: &Run| run.epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect();
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

/// Rows in columns for a terminal: the first column to the left, as it has names, the others to the right.
pub(in crate::train) fn columns(rows: &[Vec<String>]) -> String {
    let num_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..num_columns).map(|column| width(column).unwrap_or(0)).collect();
    let cell = |(column, text): (usize, &String)| {
        let width = widths[column];
        if column == 0 { format!("{text:<width$}") } else { format!("{text:>width$}") }
    };
    rows.iter().map(|row| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ") + "\n").collect()
}

fn setting<'a>(run: &'a Run, name: &str) -> Option<&'a str> {
    run.settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
