//! `report.html`: one page with everything about a run, which needs no other file and no network. Pictures are inside
//! it as data URIs; it follows the reader's choice of light or dark, and fits a telephone, where wide pictures and
//! tables scroll sideways rather than shrink until nobody can read them.

use super::classify::{Confusion, percent};
use super::plots::Picture;
use crate::train::History;

/// A picture with what it shows.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name of its file, without `.png`.
    pub name: &'static str,
    /// The heading above it.
    pub heading: String,
    /// A sentence on how to read it.
    pub caption: String,
    /// The picture.
    pub picture: Picture,
}

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1a1a1a; --quiet: #555b61; --page: #fff; --line: #dfe3e6; --head: #f4f6f7; --good: #00724f; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --quiet: #a4abb2; --page: #16191c; --line: #353b41; --head: #20252a; --good: #46c79d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p, figcaption { color: var(--quiet); margin: .3rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tile { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: .85rem; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--head); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; }
tr.best td { color: var(--good); font-weight: 600; }
table.settings td:last-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.settings td:first-child { width: 40%; }
figure { margin: 0; }
.shot { overflow-x: auto; }
pre { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; background: var(--head); font-size: .9rem; }
a { color: inherit; }
img { display: block; max-width: 100%; height: auto; margin: .4rem auto 0; border-radius: .5rem; background: #fff; padding: .3rem; }
@media (max-width: 42rem) { img { max-width: 42rem; } }
";

/// The page.
pub fn report_html(run: &History, confusion: &Confusion, class_names: &[&str], figures: &[Figure]) -> String {
    let mut page = String::new();
    page += &outcome(run, confusion);
    let mut figures = figures.iter();
    // The curves come before the tables: readers want them first.
    page += &figures.next().map(figure).unwrap_or_default();
    page += &epochs(run);
    page += &classes(confusion, class_names);
    page.extend(figures.map(figure));
    page += &settings(run);
    document(&run.name, &page)
}

/// A whole page with this heading around a body.
pub(crate) fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         {body}</body>\n</html>\n"
    )
}

/// A number or two with what they are, side by side with others.
pub(crate) fn tile(value: &str, name: &str) -> String {
    format!("<div class=\"tile\"><b>{value}</b><span>{name}</span></div>\n")
}

fn outcome(run: &History, confusion: &Confusion) -> String {
    let best = run.best();
    let tile = |value: String, name: &str| tile(&value, name);
    let mut tiles = String::new();
    match &run.outcome {
        Some(outcome) => {
            tiles += &tile(percent_2(outcome.test_accuracy), "test accuracy");
            tiles += &tile(format!("{:.4}", outcome.test_loss), "test loss");
        }
        None => tiles += &tile(percent_2(confusion.accuracy()), "test accuracy"),
    }
    tiles += &tile(percent_2(best.val_accuracy), "validation accuracy, best epoch");
    tiles += &tile(format!("{} of {}", best.epoch, run.epochs.len()), "best epoch");
    let speed = run.epochs.iter().map(|epoch| epoch.images_per_second).sum::<f64>() / run.epochs.len() as f64;
    tiles += &tile(format!("{speed:.0}"), "training images a second");
    let ended = match &run.outcome {
        Some(outcome) => escape(&outcome.stopped),
        None => "this run has not ended, or was cut off".to_owned(),
    };
    format!("<p>Training ended: {ended}.</p>\n<div class=\"tiles\">\n{tiles}</div>\n")
}

fn epochs(run: &History) -> String {
    let best = run.best().epoch;
    let row = |epoch: &crate::train::EpochReport| {
        let class = if epoch.epoch == best { " class=\"best\"" } else { "" };
        format!(
            "<tr{class}><td>{}{}</td><td>{:.4}</td><td>{}</td><td>{:.4}</td><td>{}</td><td>{}</td><td>{:.0}</td></tr>\n",
            epoch.epoch,
            if epoch.epoch == best { " ★" } else { "" },
            epoch.train_loss,
            percent_2(epoch.train_accuracy),
            epoch.val_loss,
            percent_2(epoch.val_accuracy),
            super::axes::number(epoch.lr),
            epoch.images_per_second,
        )
    };
    let rows: String = run.epochs.iter().map(row).collect();
    format!(
        "<h2>Epochs</h2>\n<p>The star is at the epoch whose weights were kept.</p>\n<div class=\"wide\"><table>\n\
         <tr><th>epoch</th><th>train loss</th><th>train acc.</th><th>val. loss</th><th>val. acc.</th><th>rate</th>\
         <th>images/s</th></tr>\n{rows}</table></div>\n"
    )
}

fn classes(confusion: &Confusion, class_names: &[&str]) -> String {
    let row = |name: &str, scores: super::classify::ClassScores| {
        let [precision, recall, f1] = [scores.precision, scores.recall, scores.f1].map(percent);
        let name = escape(name);
        format!(
            "<tr><td>{name}</td><td>{precision}</td><td>{recall}</td><td>{f1}</td><td>{}</td></tr>\n",
            scores.support
        )
    };
    let names = |class: usize| class_names.get(class).map_or(class.to_string(), |name| (*name).to_owned());
    let scores = confusion.scores().into_iter().enumerate();
    let mut rows: String = scores.map(|(class, scores)| row(&names(class), scores)).collect();
    rows += &row("mean of classes", confusion.macro_average());
    format!(
        "<h2>Classes</h2>\n<p>On the test images. Precision: of those taken for the class, how many are of it. Recall: of \
         those of the class, how many were found.</p>\n<div class=\"wide\"><table>\n<tr><th>class</th><th>precision</th>\
         <th>recall</th><th>F1</th><th>images</th></tr>\n{rows}</table></div>\n"
    )
}

fn settings(run: &History) -> String {
    let row =
        |(name, value): &(String, String)| format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(name), escape(value));
    let rows: String = run.settings.iter().map(row).collect();
    format!(
        "<h2>Settings</h2>\n<p>As in config.toml.</p>\n<div class=\"wide\"><table class=\"settings\">\n\
         <tr><th>setting</th><th style=\"text-align:left\">value</th></tr>\n{rows}</table></div>\n"
    )
}

pub(crate) fn figure(figure: &Figure) -> String {
    let (heading, caption) = (escape(&figure.heading), escape(&figure.caption));
    let data = base64(&figure.picture.png());
    // At most as wide as it was drawn: two pixels of the file for one of the page.
    let (width, height) = (figure.picture.width() / 2, figure.picture.height() / 2);
    format!(
        "<h2>{heading}</h2>\n<figure>\n<figcaption>{caption}</figcaption>\n<div class=\"shot\"><img width=\"{width}\" height=\"{height}\" \
         alt=\"{heading}\" src=\"data:image/png;base64,{data}\"></div>\n</figure>\n"
    )
}

fn percent_2(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let sign = SIGNS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (text, encoded) in cases {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
