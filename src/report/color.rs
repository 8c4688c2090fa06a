//! The colours of pictures: of lines, told apart with any colour vision, and of maps.

/// A colour with an opacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Color {
    pub rgb: [u8; 3],
    pub alpha: f32,
}

impl Color {
    pub const BLACK: Color = Color::hex(0x1a_1a_1a);
    pub const WHITE: Color = Color::hex(0xff_ff_ff);
    /// Text that is less important.
    pub const GREY: Color = Color::hex(0x55_5b_61);
    /// Lines of a grid.
    pub const FAINT: Color = Color::hex(0xe3_e6_e8);
    pub const BLUE: Color = Color::hex(0x00_72_b2);
    pub const VERMILION: Color = Color::hex(0xd5_5e_00);
    pub const GREEN: Color = Color::hex(0x00_9e_73);

    pub const fn hex(rgb: u32) -> Color {
        let [_, r, g, b] = rgb.to_be_bytes();
        Color { rgb: [r, g, b], alpha: 1.0 }
    }

    pub const fn fade(self, alpha: f32) -> Color {
        Color { alpha, ..self }
    }

    /// Whether white text reads better on it than black.
    pub fn is_dark(self) -> bool {
        let [r, g, b] = self.rgb.map(f32::from);
        // Luma of ITU-R BT.601, of which 255 is white.
        0.299 * r + 0.587 * g + 0.114 * b < 140.0
    }
}

/// The n-th colour for lines: those of Okabe and Ito (2008), told apart with any colour vision, without the yellow
/// that is too light on white.
pub(super) fn line_color(index: usize) -> Color {
    const COLORS: [Color; 7] = [
        Color::BLUE,
        Color::VERMILION,
        Color::GREEN,
        Color::hex(0xcc_79_a7),
        Color::hex(0xe6_9f_00),
        Color::hex(0x56_b4_e9),
        Color::BLACK,
    ];
    COLORS[index % COLORS.len()]
}

/// Whether the n-th line is dashed, so that more lines than colours are told apart.
pub(super) fn line_is_dashed(index: usize) -> bool {
    index / 7 % 2 == 1
}

/// A colour of the map cividis (Nuñez, Anderton and Renslow, 2018) for 0 to 1, even for all colour vision.
pub(super) fn map_color(share: f64) -> Color {
    const STOPS: [[f64; 3]; 9] = [
        [0.0, 34.0, 78.0],
        [18.0, 53.0, 112.0],
        [59.0, 73.0, 108.0],
        [87.0, 93.0, 109.0],
        [112.0, 113.0, 115.0],
        [138.0, 134.0, 120.0],
        [165.0, 156.0, 116.0],
        [195.0, 179.0, 105.0],
        [254.0, 232.0, 56.0],
    ];
    let place = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let below = (place as usize).min(STOPS.len() - 2);
    let part = place - below as f64;
    let mix = |channel: usize| (STOPS[below][channel] * (1.0 - part) + STOPS[below + 1][channel] * part).round() as u8;
    Color { rgb: [mix(0), mix(1), mix(2)], alpha: 1.0 }
}
