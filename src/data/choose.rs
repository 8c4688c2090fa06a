//! Selects a few images of a data set to show.

use super::Dataset;
use crate::rng::Stream;
use crate::{Error, Result};

/// Which images of a data set to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only images of this class.
    pub class: Option<usize>,
    /// So many at most; of each class where `each_class` is set.
    pub count: usize,
    /// Whether `count` is of each class, in the order of classes.
    pub each_class: bool,
    /// Takes them at random under this seed; without one, the first are taken.
    pub seed: Option<u64>,
}

impl Dataset {
    /// The images of a choice.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `class` where there is no such class.
    pub fn choose(&self, choice: &Choice) -> Result<Dataset> {
        if let Some(class) = choice.class.filter(|&class| class >= self.num_classes()) {
            return Err(Error::setting("class", format!("a class below {}", self.num_classes()), class));
        }
        let is_wanted = |label: u16| choice.class.is_none_or(|class| usize::from(label) == class);
        // A data set has fewer than 2^32 images.
        let num_images = self.len() as u32;
        let order = match choice.seed {
            Some(seed) => Stream::named(seed, "data.choose").permutation(num_images),
            None => (0..num_images).collect(),
        };
        let wanted = order.into_iter().filter(|&index| is_wanted(self.labels()[index as usize]));
        let chosen: Vec<u32> = if choice.each_class {
            let mut by_class = vec![Vec::new(); self.num_classes()];
            for index in wanted {
                let class = &mut by_class[usize::from(self.labels()[index as usize])];
                if class.len() < choice.count {
                    class.push(index);
                }
            }
            by_class.concat()
        } else {
            wanted.take(choice.count).collect()
        };
        self.subset(&chosen)
    }

    /// The number of images of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.num_classes()];
        for &label in self.labels() {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::data::bundled;

    #[test]
    fn images_are_chosen_by_class_number_and_chance() {
        let data = bundled::fashion_mnist().unwrap().test;
        let first = data.choose(&Choice { count: 5, ..Choice::default() }).unwrap();
        assert_eq!((first.len(), first.labels()), (5, &data.labels()[..5]));
        let bags = data.choose(&Choice { class: Some(8), count: 3, ..Choice::default() }).unwrap();
        assert_eq!(bags.labels(), [8; 3]);
        let place = data.labels().iter().position(|&label| label == 8).unwrap();
        assert_eq!(bags.image(0), data.image(place));
        let each = data.choose(&Choice { count: 2, each_class: true, ..Choice::default() }).unwrap();
        assert_eq!(each.labels(), (0..10).flat_map(|class| [class; 2]).collect::<Vec<u16>>());
        let random = |seed| data.choose(&Choice { count: 20, seed: Some(seed), ..Choice::default() }).unwrap();
        assert!(random(1) == random(1) && random(1) != random(2) && random(1).image(0) != data.image(0));
        let all = data.choose(&Choice { count: usize::MAX, ..Choice::default() }).unwrap();
        assert_eq!(all.len(), data.len());
        assert!(data.choose(&Choice { class: Some(10), count: 1, ..Choice::default() }).unwrap_err().is_usage());
        assert_eq!(data.class_counts().iter().sum::<usize>(), 2000);
    }
}
