//! The tiles of a convolution's result that workgroups of a GPU compute.

/// How the values of a channel of images are cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tiles {
    /// Rows that lie a step apart and columns of an image, counted along the rows, then down, then over the images, then from
    /// the first row of each that is within a step.
    Rectangles { size: [usize; 2], step: usize },
    /// So many pixels, counted over all images.
    Runs(usize),
}

impl Tiles {
    /// How many there are in so many images of this height and width.
    pub fn count(self, images: usize, [height, width]: [usize; 2]) -> usize {
        match self {
            Tiles::Rectangles { size: [rows, columns], step } => {
                step * images * height.div_ceil(step).div_ceil(rows) * width.div_ceil(columns)
            }
            Tiles::Runs(pixels) => (images * height * width).div_ceil(pixels),
        }
    }

    /// Pixels of a tile, as (image, pixel of it).
    pub fn pixels(
        self,
        images: usize,
        [height, width]: [usize; 2],
        tile: usize,
    ) -> impl Iterator<Item = (usize, usize)> {
        let most = match self {
            Tiles::Rectangles { size: [rows, columns], .. } => rows * columns,
            Tiles::Runs(pixels) => pixels,
        };
        let place = move |index: usize| match self {
            Tiles::Rectangles { size: [rows, columns], step } => {
                let (across, down) = (width.div_ceil(columns), height.div_ceil(step).div_ceil(rows));
                let of_all = tile / across / down;
                let y = (tile / across % down * rows + index / columns) * step + of_all / images;
                let x = tile % across * columns + index % columns;
                (y < height && x < width).then_some((of_all % images, y * width + x))
            }
            Tiles::Runs(pixels) => {
                let (pixel, plane) = (tile * pixels + index, height * width);
                (pixel < images * plane).then_some((pixel / plane, pixel % plane))
            }
        };
        (0..most).filter_map(place)
    }
}
