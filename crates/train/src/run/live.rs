//! What can be watched while a run trains: its learning curves as an SVG and as TensorBoard's event
//! files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use failure::{Failure, Result};
use schema::HistoryRow;

use crate::run::tensorboard::EventFiles;

/// Up to this many epochs, the figure is redrawn after each.
const ALWAYS: usize = 200;
/// Beyond that, it is redrawn at most this often: many epochs take a while to draw.
const PACE: Duration = Duration::from_millis(100);

/// The curves of a run.
pub struct LiveCurves {
    path: PathBuf,
    rows: Vec<HistoryRow>,
    drawn: Instant,
    board: EventFiles,
}

impl LiveCurves {
    /// Starts the curves in a run's `folder`, with the `rows` so far of a resumed run.
    pub fn open(folder: &Path, rows: Vec<HistoryRow>) -> Result<Self> {
        let board = EventFiles::create(&folder.join("tensorboard"), &rows)?;
        Ok(Self { path: folder.join("curves.svg"), rows, drawn: Instant::now(), board })
    }

    /// Adds an epoch.
    pub fn push(&mut self, row: &HistoryRow) -> Result<()> {
        self.board.push(row)?;
        self.rows.push(*row);
        if self.rows.len() <= ALWAYS || self.drawn.elapsed() >= PACE {
            self.draw()?;
        }
        Ok(())
    }

    /// The row of an epoch, counted from 1.
    pub fn row(&self, epoch: u32) -> Option<HistoryRow> {
        self.rows.iter().find(|row| row.epoch == epoch).copied()
    }

    /// Draws the figure, atomically, since somebody may be looking.
    pub fn draw(&mut self) -> Result<()> {
        self.drawn = Instant::now();
        let svg = curves::draw_both(&self.rows).map_err(|e| {
            Failure::failed(e, self.path.display(), "this is a bug; please report it")
        })?;
        // The result is synced as a whole when it is complete.
        atomic::write_unsynced(&self.path, svg.as_bytes())
            .map_err(|e| Failure::io("write", &self.path, &e))
    }
}
