//! Networks that are chosen by name. Each is one file with a type for its settings. The number of classes belongs to
//! the data set and is not a setting. To add a network, write its file and its line in the registry below.

mod all_conv;
mod layers;
mod lenet5;
mod mlp;
mod resnet;
mod vgg;

use std::path::Path;

use serde::Serialize;

pub use all_conv::AllConv;
pub use layers::Layers;
pub use lenet5::LeNet5;
pub use mlp::Mlp;
pub use resnet::{ResNet, Shortcut};
pub use vgg::Vgg;

use super::{Mode, Model, Summary};
use crate::registry::registry;
use crate::{Error, Graph, Result, Value, files};

/// A network with its settings, for any shape of images and number of classes that it fits.
pub trait Architecture {
    /// Appends the logits (N, `num_classes`) of images (N, C, H, W).
    ///
    /// # Errors
    /// [`Error::Operand`] where the images do not fit the network.
    fn build(&self, graph: &mut Graph, images: Value, mode: Mode, num_classes: usize) -> Result<Value>;

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting as `network.<setting>`.
    fn validate(&self) -> Result<()>;

    /// The network with what its settings add, such as "LeNet-5, batch normalization", for the lines of a report.
    fn title(&self) -> String;
}

registry! {
    /// A network, chosen by name.
    pub enum Network("network"): Architecture {
        LeNet5(LeNet5), Mlp(Mlp), Vgg(Vgg), ResNet(ResNet), AllConv(AllConv), Layers(Layers)
    }
}

impl Default for Network {
    fn default() -> Self {
        LeNet5::default().into()
    }
}

impl Network {
    /// The network of this name, or the one in the file of layers that `name_or_file` is the path of: anything that
    /// ends in `.toml`.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is no such network; as [`Network::from_file`].
    pub fn open(name_or_file: &str) -> Result<Network> {
        let path = Path::new(name_or_file);
        if path.extension().is_some_and(|extension| extension == "toml") {
            Network::from_file(path)
        } else {
            Network::named(name_or_file)
        }
    }

    /// Reads a list of layers; [`Layers`] has the format.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] naming the file and the layer that is wrong.
    pub fn from_file(path: &Path) -> Result<Network> {
        let text = files::read_to_string(path).map_err(Error::io("read", path))?;
        let layers: Layers = toml::from_str(&text)
            .map_err(|error| Error::data(path, "a list of layers", error.to_string().trim_end().to_owned()))?;
        layers.validate().map_err(|error| match error {
            Error::Setting { setting, expected, got } => Error::data(path, format!("{setting}: {expected}"), got),
            other => other,
        })?;
        Ok(layers.into())
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting as `network.<setting>`.
    pub fn validate(&self) -> Result<()> {
        self.get().validate()
    }

    /// The network with what its settings add, such as "LeNet-5, batch normalization".
    pub fn title(&self) -> String {
        self.get().title()
    }
}

/// A network for a number of classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// The network.
    pub network: Network,
    /// The number of classes.
    pub num_classes: usize,
}

impl Classifier {
    /// A network for a number of classes.
    ///
    /// ```
    /// use wgrad::nn::{Classifier, Mlp};
    ///
    /// let model = Classifier::new(Mlp { hidden: vec![32], ..Mlp::default() }, 10);
    /// # let _ = model;
    /// ```
    pub fn new(network: impl Into<Network>, num_classes: usize) -> Self {
        Classifier { network: network.into(), num_classes }
    }
}

impl Model for Classifier {
    fn logits(&self, graph: &mut Graph, images: Value, mode: Mode) -> Result<Value> {
        let Classifier { network, num_classes } = self;
        let logits = network.get().build(graph, images, mode, *num_classes)?;
        let batch = graph.shape(images).dims().first().copied().unwrap_or_default();
        if graph.shape(logits).dims() == [batch, *num_classes] {
            return Ok(logits);
        }
        let expected = format!("logits ({batch}, {num_classes}) for {num_classes} classes");
        let got = format!("{} from images {}", graph.shape(logits), graph.shape(images));
        Err(Error::operand(network.name(), expected, got))
    }
}

/// A network that can be chosen, with its size and cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkRow {
    /// The name it is chosen by.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Learned numbers.
    pub num_parameters: usize,
    /// Floating-point operations of one image's forward pass; a multiply-add counts as 2.
    pub flops: u64,
}

/// All networks that can be chosen by name, with their defaults, for images of `shape` (C, H, W). Those that do not fit
/// such images are left out, and so is the one that is read from a file.
pub fn table(shape: [usize; 3], num_classes: usize) -> Vec<NetworkRow> {
    let row = |entry: &crate::registry::Entry| {
        let network = Network::named(entry.name).ok()?;
        let Summary { num_parameters, flops, .. } = Summary::of(&Classifier { network, num_classes }, shape, 1).ok()?;
        Some(NetworkRow { name: entry.name, about: entry.about, num_parameters, flops })
    };
    Network::ENTRIES.iter().filter_map(row).collect()
}

/// The most layers of a kind: far more than any network of these has been trained with. A longer one is planned and run
/// as well, but takes its time for it.
const MAX_LAYERS: usize = 2000;

/// Checks a dropout probability.
fn check_dropout(dropout: f64) -> Result<()> {
    if (0.0..1.0).contains(&dropout) {
        Ok(())
    } else {
        Err(Error::setting("network.dropout", "a number from 0 to below 1", dropout))
    }
}

/// Checks that a list of widths has one, and none of 0, and is no longer than networks are.
fn check_widths(setting: &str, widths: &[usize]) -> Result<()> {
    if widths.is_empty() {
        Err(Error::setting(setting, "at least one width", "none"))
    } else if widths.len() > MAX_LAYERS {
        Err(Error::setting(setting, format!("at most {MAX_LAYERS} widths"), widths.len()))
    } else if widths.contains(&0) {
        Err(Error::setting(setting, "widths of at least 1", 0))
    } else {
        Ok(())
    }
}

/// ", dropout 0.5", or nothing.
fn dropout_words(dropout: f64) -> String {
    if dropout > 0.0 { format!(", dropout {dropout}") } else { String::new() }
}
