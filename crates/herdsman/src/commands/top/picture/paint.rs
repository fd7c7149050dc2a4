//! Colours, or what stands for them, and tables.

use ratatui_core::layout::{Constraint, Rect};
use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::terminal::Frame;
use ratatui_core::text::Text;
use ratatui_widgets::table::{Row, Table};

/// How things are told apart.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands::top) struct Paint {
    /// Without, weight and inversion have to do.
    pub(in crate::commands::top) colours: bool,
}

impl Paint {
    /// As it should be.
    pub(super) fn good(self) -> Style {
        self.or(Color::Green, Modifier::BOLD)
    }

    /// To be looked at.
    pub(super) fn warn(self) -> Style {
        self.or(Color::Yellow, Modifier::BOLD)
    }

    /// Wrong.
    pub(super) fn bad(self) -> Style {
        self.or(Color::Red, Modifier::REVERSED)
    }

    /// Beside the point.
    pub(super) fn dim(self) -> Style {
        self.or(Color::DarkGray, Modifier::DIM)
    }

    /// A heading.
    pub(super) fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is chosen.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What is nothing in particular.
    pub(super) fn plain(self) -> Style {
        Style::new()
    }

    fn or(self, colour: Color, modifier: Modifier) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new().add_modifier(modifier) }
    }
}

/// A table: a style and cells for each line. Columns are as wide as what is in them, the last one takes what is left.
/// `first` is the first line that is shown, unless all of them fit.
pub(super) fn table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    header: [&str; N],
    lines: Vec<(Style, [String; N])>,
    first: usize,
    paint: Paint,
) {
    let mut widths = header.map(|title| title.chars().count());
    for (_, cells) in &lines {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let room = usize::from(area.height.saturating_sub(1));
    let first = first.min(lines.len().saturating_sub(room));
    let last = N.saturating_sub(1);
    let widths = widths.iter().enumerate().map(|(at, width)| match u16::try_from(*width) {
        Ok(width) if at < last => Constraint::Length(width),
        _ => Constraint::Fill(1),
    });
    let widths: Vec<_> = widths.collect();
    let rows = lines.into_iter().skip(first).map(|(style, cells)| {
        Row::new(cells.into_iter().map(Text::from).collect::<Vec<_>>()).style(style)
    });
    let table = Table::new(rows, widths).column_spacing(2);
    frame.render_widget(table.header(Row::new(header.map(Text::from)).style(paint.head())), area);
}
