//! What a pull shows on a terminal: a line about the image, and a bar for each layer that comes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use matchlock_core::images::{Event, LayerState, Progress};

/// Between two movements of the sign that something goes on.
const TICK: Duration = Duration::from_millis(120);

/// Shows how far an image has come, on a terminal only. All of it vanishes with this value.
#[derive(Debug)]
pub(crate) struct ImageProgress {
    view: Option<View>,
}

#[derive(Debug)]
struct View {
    bars: MultiProgress,
    head: ProgressBar,
    image: String,
    layers: Mutex<Layers>,
}

/// Nobody needs to be told of what takes less.
const LONG: Duration = Duration::from_secs(1);

/// The line of a copy.
const BYTES: &str = "{spinner} {msg}: {bytes} ({bytes_per_sec})";

#[derive(Debug, Default)]
struct Layers {
    total: usize,
    done: usize,
    /// Those on their way, by their index.
    active: HashMap<usize, ProgressBar>,
}

impl ImageProgress {
    /// About `image`; `shown` says whether somebody looks at a terminal.
    pub(super) fn new(image: &str, shown: bool) -> Self {
        Self { view: shown.then(|| View::new(image, ProgressDrawTarget::stderr())) }
    }

    /// Clears it, for callers that share it with a thread that may never end.
    pub(crate) fn clear(&self) {
        if let Some(view) = &self.view {
            view.head.finish_and_clear();
            // A terminal that is gone needs no cleaning.
            drop(view.bars.clear());
        }
    }
}

impl Progress for ImageProgress {
    fn event(&self, event: Event) {
        if let Some(view) = &self.view {
            view.event(&event);
        }
    }
}

impl Drop for ImageProgress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How many bytes have been copied, if that takes longer.
#[derive(Debug)]
pub(crate) struct ByteProgress(Option<ProgressBar>);

impl ByteProgress {
    pub(super) fn new(text: &str, shown: bool) -> Self {
        Self(shown.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            bar.with_style(style(BYTES)).with_message(harmless(text))
        }))
    }

    /// Shows the count until the caller stops to wait for this.
    pub(crate) async fn follow(&self, count: &AtomicU64) {
        let Some(bar) = &self.0 else { return std::future::pending().await };
        tokio::time::sleep(LONG).await;
        bar.set_draw_target(ProgressDrawTarget::stderr());
        loop {
            bar.set_position(count.load(Ordering::Relaxed));
            bar.tick();
            tokio::time::sleep(TICK).await;
        }
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl View {
    fn new(image: &str, target: ProgressDrawTarget) -> Self {
        let bars = MultiProgress::with_draw_target(target);
        let head = bars.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg}")));
        head.enable_steady_tick(TICK);
        let view = Self { bars, head, image: harmless(image), layers: Mutex::default() };
        view.say("…");
        view
    }

    fn event(&self, event: &Event) {
        match *event {
            Event::Resolving => self.say("asking the registry"),
            Event::Resolved { layers, bytes, .. } => {
                self.layers().total = layers;
                let size = match bytes {
                    0 => String::new(),
                    bytes => format!(", {}", super::megabytes(bytes)),
                };
                self.say(&format!("layers: {layers}{size}"));
            }
            Event::Layer { index, state, .. } => self.layer(index, state),
            Event::Retrying { index, attempt } => {
                let layer = index.saturating_add(1);
                self.say(&format!("layer {layer} broke off: attempt {attempt}"));
            }
            Event::Merging => self.say("merging the layers"),
        }
    }

    fn layer(&self, index: usize, state: LayerState) {
        let mut layers = self.layers();
        if matches!(state, LayerState::Exists | LayerState::Done) {
            layers.done += 1;
            if let Some(bar) = layers.active.remove(&index) {
                bar.finish_and_clear();
                self.bars.remove(&bar);
            }
            let text = format!("layers: {} of {}", layers.done, layers.total);
            drop(layers);
            return self.say(&text);
        }
        let bar = layers.active.entry(index).or_insert_with(|| {
            let template = "  layer {prefix} [{bar:30}] {bytes}/{total_bytes} {msg}";
            let bar = ProgressBar::no_length().with_style(style(template).progress_chars("=> "));
            let bar = self.bars.add(bar);
            bar.set_prefix(format!("{:>3}", index.saturating_add(1)));
            bar
        });
        match state {
            LayerState::Downloading { done, of } => {
                bar.set_length(of);
                bar.set_position(done);
                bar.set_message("");
            }
            LayerState::Waiting => bar.set_message("(another process fetches it)"),
            LayerState::Unpacking => bar.set_message("(unpacking)"),
            LayerState::Exists | LayerState::Done => {}
        }
    }

    fn say(&self, text: &str) {
        self.head.set_message(format!("{}: {text}", self.image));
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file, and a test renders each.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Nothing in the name may steer the terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::sync::Arc;

    /// A terminal that remembers what was written to it.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _n: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _n: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _n: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _n: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.lock().expect("whole").push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn layer(index: usize, state: LayerState) -> Event {
        let diff_id = matchlock_core::images::Digest::of(b"");
        Event::Layer { index, diff_id, state }
    }

    #[test]
    fn layers_have_bars_while_they_come() {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let view = View::new("example\x1b[2J", target);
        let digest = matchlock_core::images::Digest::of(b"");
        view.event(&Event::Resolving);
        view.event(&Event::Resolved { digest, layers: 3, bytes: 5 << 20 });
        view.event(&layer(0, LayerState::Exists));
        view.event(&layer(1, LayerState::Downloading { done: 1 << 20, of: 4 << 20 }));
        view.event(&layer(2, LayerState::Waiting));
        assert_eq!(view.layers().active.len(), 2);
        for bar in view.layers().active.values() {
            bar.force_draw();
        }
        let shown = paper.0.lock().expect("whole").clone();
        for text in ["example", "layer   2 [", "1.00 MiB/4.00 MiB", "another process"] {
            assert!(shown.contains(text), "{text} in {shown:?}");
        }
        assert!(!shown.contains("\x1b[2J"), "{shown:?}");
        view.event(&layer(1, LayerState::Unpacking));
        view.event(&layer(1, LayerState::Done));
        view.event(&layer(2, LayerState::Done));
        assert_eq!(view.layers().done, 3);
        assert!(view.layers().active.is_empty());
        view.event(&Event::Retrying { index: 0, attempt: 2 });
        assert_eq!(view.head.message(), "example\u{fffd}[2J: layer 1 broke off: attempt 2");
    }

    #[test]
    fn bytes_are_counted_on_one_line() {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let progress = ByteProgress::new("vm-1\x1b[2J", true);
        let bar = progress.0.as_ref().expect("shown");
        bar.set_draw_target(target);
        bar.set_position(3 << 20);
        bar.force_draw();
        let shown = paper.0.lock().expect("whole").clone();
        assert!(shown.contains("vm-1\u{fffd}[2J: 3.00 MiB ("), "{shown:?}");
        assert!(ByteProgress::new("vm-1", false).0.is_none());
    }

    #[test]
    fn without_a_terminal_there_is_nothing() {
        let progress = ImageProgress::new("example", false);
        assert!(progress.view.is_none());
        progress.event(Event::Merging);
    }
}
