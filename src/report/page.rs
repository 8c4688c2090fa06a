//! A page of one's own, in the dress of `report.html`: headings, text, tables and pictures in one file that needs no
//! other.

use std::path::Path;

use super::html::{Figure, document, escape, figure};
use super::picture::Picture;
use crate::{Result, files};

/// A page under construction.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with nothing but its title.
    pub fn new(title: &str) -> Page {
        Page { title: title.to_owned(), body: String::new() }
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: &str) {
        self.body += &format!("<h2>{}</h2>\n", escape(text));
    }

    /// Adds a paragraph.
    pub fn text(&mut self, text: &str) {
        self.body += &format!("<p>{}</p>\n", escape(text));
    }

    /// Adds a table whose first row is its head.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        let row = |tag: &str, cells: &[String]| {
            let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let Some((head, rows)) = rows.split_first() else { return };
        let rows: String = rows.iter().map(|cells| row("td", cells)).collect();
        self.body += &format!("<div class=\"wide\"><table>\n{}{rows}</table></div>\n", row("th", head));
    }

    /// Adds a picture with a heading above and a sentence on how to read it.
    pub fn figure(&mut self, heading: &str, caption: &str, picture: Picture) {
        let (heading, caption) = (heading.to_owned(), caption.to_owned());
        self.body += &figure(&Figure { name: "figure", heading, caption, picture });
    }

    /// Writes the page.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_whole(path, document(&self.title, &self.body).as_bytes())
    }
}
