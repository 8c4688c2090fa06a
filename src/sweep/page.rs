//! The results of a sweep for people to read: `parallel.png` and `report.html`.

use std::path::PathBuf;

use super::config::{Method, SearchOptions};
use super::ledger::{Status, TrialRecord};
use super::ranking::Ranking;
use super::run::SweepFolder;
use crate::report::html::{Figure, document, escape, figure, tile};
use crate::{Result, files};

/// Writes the picture and the page into the sweep's folder, and gives their paths; `best_toml` is shown on the page.
///
/// # Errors
/// [`crate::Error::Io`].
pub(super) fn write(folder: &SweepFolder, ranking: &Ranking<'_>, best_toml: Option<&str>) -> Result<[PathBuf; 2]> {
    let sweep = folder.sweep();
    let name = folder.path().file_name().map_or("sweep".to_owned(), |name| name.to_string_lossy().into_owned());
    let picture = ranking.picture(&format!("{} trials of {name}", folder.records().len()))?;
    let written = ["parallel.png", "report.html"].map(|name| folder.path().join(name));
    files::write_whole(&written[0], &picture.png())?;
    let shown = Figure {
        name: "parallel",
        heading: "Settings and metric".to_owned(),
        caption:
            "Each line is a trial, from its settings on the left to its metric on the right. Darker is better; the best \
                  is orange, with its values below. Dashed grey lines failed."
                .to_owned(),
        picture,
    };
    let body = outcome(ranking, sweep.trials.len())
        + &how(&sweep.config.search)
        + &figure(&shown)
        + &trials(ranking)
        + &best_toml
            .map(|text| texts("Best configuration", "best.toml, the settings of a run.", text))
            .unwrap_or_default()
        + &texts("What was asked", "sweep.toml.", &toml::to_string_pretty(&sweep.config).unwrap_or_default());
    files::write_whole(&written[1], document(&name, &body).as_bytes())?;
    Ok(written)
}

fn outcome(ranking: &Ranking<'_>, num_trials: usize) -> String {
    let metric = ranking.metric();
    let mut tiles = String::new();
    let epochs: u64 = ranking.records().iter().map(|record| record.epochs).sum();
    if let Some(TrialRecord { trial, metric: Some(score), test_accuracy, .. }) = ranking.best() {
        tiles += &tile(&metric.text(*score), &format!("best {}", metric.monitor()));
        if let Some(accuracy) = test_accuracy {
            tiles += &tile(&format!("{:.2}%", 100.0 * accuracy), "its test accuracy");
        }
        tiles += &tile(&trial.to_string(), "best trial");
    }
    tiles += &tile(&format!("{} of {num_trials}", ranking.records().len()), "trials");
    for (status, name) in [(Status::Halved, "halved"), (Status::Failed, "failed")] {
        if ranking.count(status) > 0 {
            tiles += &tile(&ranking.count(status).to_string(), name);
        }
    }
    tiles += &tile(&epochs.to_string(), "epochs in all");
    format!("<div class=\"tiles\">\n{tiles}</div>\n")
}

fn how(search: &SearchOptions) -> String {
    let text = match search.method {
        Method::Grid => "Grid search: every combination, each trained in full.".to_owned(),
        Method::Random => format!("Random search (seed {}), each trial trained in full.", search.seed),
        Method::Asha => format!(
            "Random configurations (seed {}) under asynchronous successive halving (Li et al., 2020): one trial in {} \
             is promoted to {} times as many epochs.",
            search.seed, search.reduction_factor, search.reduction_factor
        ),
    };
    format!("<p>{text}</p>\n")
}

fn trials(ranking: &Ranking<'_>) -> String {
    let head: String = ranking.head().iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
    let row = |(cells, record): (Vec<String>, &&TrialRecord)| {
        let is_best = ranking.best().is_some_and(|best| best.trial == record.trial);
        let class = if is_best { " class=\"best\"" } else { "" };
        let cell = |(column, text): (usize, &String)| match column {
            1 => format!("<td><a href=\"{}/\">{text}</a></td>", escape(&record.folder.display().to_string())),
            _ => format!("<td>{}</td>", escape(text)),
        };
        format!("<tr{class}>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
    };
    let rows: String = ranking.rows().into_iter().zip(ranking.records()).map(row).collect();
    let failed = ranking.records().iter().filter(|record| record.status == Status::Failed);
    let reasons: String = failed
        .map(|record| {
            let reason = record.reason.as_deref().unwrap_or("the reason is not known");
            format!("<p>Trial {} failed: {}.</p>\n", record.trial, escape(reason))
        })
        .collect();
    format!(
        "<h2>Trials</h2>\n<p>The metric is that of the best epoch, whose weights are in the trial's folder.</p>\n\
         <div class=\"wide\"><table>\n<tr>{head}</tr>\n{rows}</table></div>\n{reasons}"
    )
}

fn texts(heading: &str, caption: &str, text: &str) -> String {
    format!("<h2>{heading}</h2>\n<p>{caption}</p>\n<pre>{}</pre>\n", escape(text))
}
