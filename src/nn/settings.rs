//! How settings of layers are read and written: pairs that may be one number, defaults that are left out.

/// [height, width], or one number for both.
pub(super) mod pair {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a whole number of at least 0, or two of them as [height, width]")]
    enum Written {
        Both(usize),
        Each([usize; 2]),
    }

    pub fn serialize<S: Serializer>(pair: &[usize; 2], serializer: S) -> Result<S::Ok, S::Error> {
        match pair {
            [height, width] if height == width => height.serialize(serializer),
            each => each.serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[usize; 2], D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Both(extent) => [extent; 2],
            Written::Each(pair) => pair,
        })
    }

    /// The same where it may be missing.
    pub mod optional {
        use serde::{Deserializer, Serializer};

        pub fn serialize<S: Serializer>(pair: &Option<[usize; 2]>, serializer: S) -> Result<S::Ok, S::Error> {
            match pair {
                Some(pair) => super::serialize(pair, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[usize; 2]>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

pub(super) fn one() -> usize {
    1
}

pub(super) fn ones() -> [usize; 2] {
    [1; 2]
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn is_one(value: &usize) -> bool {
    *value == 1
}

pub(super) fn is_ones(pair: &[usize; 2]) -> bool {
    *pair == [1; 2]
}

pub(super) fn is_zeros(pair: &[usize; 2]) -> bool {
    *pair == [0; 2]
}

pub(super) fn is_true(value: &bool) -> bool {
    *value
}

pub(super) fn is_false(value: &bool) -> bool {
    !*value
}
