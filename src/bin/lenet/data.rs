//! `lenet data`: lists, downloads and shows data sets.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use wgrad::Result;
use wgrad::data::fetch::{Event, fetch};
use wgrad::data::{Choice, DataSource, Dataset, Place, Splits, load, places};
use wgrad::report::grids::{ImageSample, sample_grid};
use wgrad::run::RunConfig;

use crate::bars;
use crate::console::{self, Side, count};
use crate::options::at_least_1;
use crate::picture::{self, png_file};
use crate::words::counted;

#[derive(Subcommand)]
pub enum DataCommand {
    /// List the data sets: how many images of each are here, and in which folder
    List(ListOptions),
    /// Download a data set's official files into the cache folder and verify their checksums
    Fetch(FetchOptions),
    /// Print a data set's classes with their counts, and draw some of its images
    Show(ShowOptions),
}

#[derive(Args)]
pub struct ListOptions {
    /// Search this folder only
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Args)]
pub struct FetchOptions {
    /// The data set
    #[arg(value_name = "NAME", value_parser = published_name())]
    name: DataSource,
    /// Download from this server instead of the usual ones: file names are appended to the URL, checksums stay the same
    #[arg(long, value_name = "URL")]
    from: Option<String>,
}

#[derive(Args)]
pub struct ShowOptions {
    /// The data set
    #[arg(value_name = "NAME", value_parser = dataset_name())]
    name: DataSource,
    /// The folder with its files [default: as `lenet data list` says]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Which images: those to train on or those to test with
    #[arg(long, value_name = "SPLIT", value_parser = ["train", "test"], default_value = "train")]
    split: String,
    /// Draw images to this file
    #[arg(long, value_name = "FILE.png", value_parser = png_file(), help_heading = "Picture")]
    picture: Option<PathBuf>,
    /// Draw images of this class only: its name, or its number
    #[arg(long, value_name = "CLASS", requires = "picture", help_heading = "Picture")]
    class: Option<String>,
    /// Draw N images [default: 40, or 1 with --each-class]
    #[arg(long, value_name = "N", requires = "picture", value_parser = at_least_1, help_heading = "Picture")]
    count: Option<usize>,
    /// Draw as many of each class, in the order of classes
    #[arg(long, requires = "picture", conflicts_with = "class", help_heading = "Picture")]
    each_class: bool,
    /// Draw images at random, with this seed [default: the first ones]
    #[arg(long, value_name = "N", requires = "picture", help_heading = "Picture")]
    seed: Option<u64>,
}

/// The most images on a picture: 2,000 are 15,000 pixels high.
const MOST_DRAWN: usize = 2000;

pub fn run(command: DataCommand) -> Result<ExitCode> {
    match command {
        DataCommand::List(options) => list(options),
        DataCommand::Fetch(options) => download(options),
        DataCommand::Show(options) => show(options),
    }
}

fn list(options: ListOptions) -> Result<ExitCode> {
    row(["data set", "training", "test", "classes", "where"])?;
    let sources = DataSource::ENTRIES.iter().map(|entry| DataSource::named(entry.name));
    for source in sources {
        let source = source?;
        let classes = source.get().class_names(None).map_or_else(|_| "–".to_owned(), |names| names.len().to_string());
        let found = places(&source, options.data.as_deref());
        if found.is_empty() {
            row([source.name(), "–", "–", &classes, &absence(&source)])?;
        }
        for (index, place) in found.iter().enumerate() {
            let name = if index == 0 { source.name() } else { "" };
            let mark = if index == 0 && found.len() > 1 { "  <- taken without --data" } else { "" };
            let at = at(place);
            match place.load() {
                Ok(splits) => {
                    let [train, test] = [&splits.train, &splits.test].map(|data| count(data.len()).to_string());
                    let remark = completeness(&source, &splits);
                    let classes = splits.train.num_classes().to_string();
                    row([name, &train, &test, &classes, &format!("{at}{remark}{mark}")])?;
                }
                Err(error) => row([name, "–", "–", &classes, &format!("{at}: cannot be used: {error}{mark}")])?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row([name, training, test, classes, place]: [&str; 5]) -> Result<()> {
    console::line(format!("{name:13}  {training:>9}  {test:>7}  {classes:>7}  {place}"))
}

/// What to do where there are no files.
fn absence(source: &DataSource) -> String {
    match source.get().published() {
        Some(_) => format!("not found; `lenet data fetch {source}` downloads it"),
        None => format!("not found; --data takes a folder with {}", source.get().files().names()),
    }
}

fn at(place: &Place) -> String {
    match &place.dir {
        Some(dir) => format!("{} ({})", dir.display(), place.kind),
        None => "bundled with the program".to_owned(),
    }
}

fn completeness(source: &DataSource, splits: &Splits) -> &'static str {
    match source.get().num_images() {
        Some(published) if published == [splits.train.len(), splits.test.len()] => ", complete",
        Some(_) => ", a subset",
        None => "",
    }
}

fn download(options: FetchOptions) -> Result<ExitCode> {
    let mut bar = ProgressBar::hidden();
    let mut asked = String::new();
    // What is printed on the way is no result; a line that cannot be printed ends nothing.
    let mut watch = |event: Event<'_>| match event {
        Event::Present { file } => drop(console::line(format!("{file}  is already here"))),
        Event::Asking { file, url } => {
            // A connection that is taken up again is the same download.
            if asked != url {
                bar.finish_and_clear();
                drop(console::line(format!("{file}  from {url}")));
                bar = new_bar();
                url.clone_into(&mut asked);
            }
        }
        Event::Received { bytes, of } => {
            bar.set_length(of);
            bar.set_position(bytes);
        }
        Event::Failed { reason, .. } => bar.suspend(|| console::complain("warning", reason)),
        Event::Done { file } => {
            let bytes = HumanBytes(bar.position());
            bar.finish_and_clear();
            drop(console::line(format!("{file}  {bytes}, checksum verified")));
        }
    };
    let folder = fetch(&options.name, options.from.as_deref(), &mut watch)?;
    console::line(format!("{} is in {}", options.name, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn new_bar() -> ProgressBar {
    if !io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:32}  {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is a constant that is well-formed");
    ProgressBar::with_draw_target(Some(0), bars::target()).with_style(style)
}

fn show(options: ShowOptions) -> Result<ExitCode> {
    let config = RunConfig { dataset: options.name.clone(), data: options.data.clone(), ..RunConfig::default() };
    picture::keep_images(options.picture.as_deref(), &config)?;
    let Splits { train, test, source } = load(&options.name, options.data.as_deref())?;
    let data = if options.split == "test" { test } else { train };
    let [channels, height, width] = data.shape();
    let colour = if channels == 1 { "grey" } else { "colour" };
    let number = counted(data.len() as u64, &format!("{} image", data.split()));
    let images = format!("{number} of {width}×{height} pixels, {colour}");
    console::line(format!("data      {} from {source}", options.name))?;
    console::line(format!("images    {images}"))?;
    let stats = data.statistics()?;
    let numbers = |values: &[f64]| values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", ");
    console::line(format!("pixels    mean {}, standard deviation {}\n", numbers(&stats.mean), numbers(&stats.std)))?;
    let mut rows = vec![["class", "name", "images"].map(str::to_owned)];
    let classes = data.class_names().into_iter().zip(data.class_counts()).enumerate();
    rows.extend(classes.map(|(class, (name, images))| [class.to_string(), name.to_owned(), count(images).to_string()]));
    console::table([Side::Right, Side::Left, Side::Right], &rows)?;
    if let Some(path) = &options.picture {
        let class = options.class.as_deref().map(|class| find_class(&data, class)).transpose()?;
        let default = if options.each_class { 1 } else { 40 };
        let choice = Choice {
            class,
            count: options
                .count
                .unwrap_or(default)
                .min(MOST_DRAWN / if options.each_class { data.num_classes() } else { 1 }),
            each_class: options.each_class,
            seed: options.seed,
        };
        draw(&data, &choice)?.save(path)?;
        console::line(format!("\npicture   {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(data: &Dataset, choice: &Choice) -> Result<wgrad::report::Picture> {
    let chosen = data.choose(choice)?;
    let sample = |index: usize| ImageSample {
        pixels: chosen.image(index).to_vec(),
        shape: chosen.shape(),
        label: chosen.class_of(index).to_owned(),
        predicted: None,
    };
    let samples: Vec<ImageSample> = (0..chosen.len()).map(sample).collect();
    let class_names = data.class_names();
    let class_name = |class: usize| class_names.get(class).copied().unwrap_or_default();
    let of_class = choice.class.map_or(String::new(), |class| format!(" of class {}", class_name(class)));
    let title = format!("{}: {} {} images{of_class}", data.name(), samples.len(), data.split());
    // With several of each class, a row is a class.
    let columns = if choice.each_class && choice.count > 1 { choice.count.min(12) } else { 8 };
    let columns = if choice.each_class && choice.count == 1 { 5 } else { columns };
    Ok(sample_grid(&title, &samples, columns))
}

/// A parser for the names of data sets, which `--help` and error messages list.
fn dataset_name() -> impl TypedValueParser<Value = DataSource> {
    let names = DataSource::ENTRIES.iter().map(|entry| entry.name);
    PossibleValuesParser::new(names).try_map(|name| DataSource::named(&name))
}

/// The same for those that can be downloaded.
fn published_name() -> impl TypedValueParser<Value = DataSource> {
    let sources = DataSource::ENTRIES.iter().filter_map(|entry| DataSource::named(entry.name).ok());
    let published = sources.filter(|source| source.get().published().is_some());
    PossibleValuesParser::new(published.map(|source| source.name())).try_map(|name| DataSource::named(&name))
}

/// A class by its name or number.
fn find_class(data: &Dataset, text: &str) -> Result<usize> {
    let class_names = data.class_names();
    let by_name = class_names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let by_number = || text.parse().ok().filter(|&class| class < class_names.len());
    by_name.or_else(by_number).ok_or_else(|| wgrad::Error::Setting {
        setting: "--class".to_owned(),
        expected: format!("{}, or a number below {}", class_names.join(", "), class_names.len()),
        got: text.to_owned(),
    })
}
