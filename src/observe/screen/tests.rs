use super::*;
use std::sync::{Arc, Mutex};

/// An output that can be read while the screen holds it.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().expect("one thread"));
        String::from_utf8(bytes).expect("UTF-8")
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn epoch(step: u64) -> EpochLine {
    EpochLine {
        epoch: 1,
        step,
        steps: 20,
        workers: 2,
        ..EpochLine::default()
    }
}

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn live(columns: usize, colour: bool) -> (Screen<Page>, Page) {
    let page = Page::default();
    (
        Screen::new(
            page.clone(),
            Terminal {
                live: true,
                columns,
                colour,
            },
        ),
        page,
    )
}

#[test]
fn the_bar_is_redrawn_in_place_at_most_ten_times_a_second() {
    let (mut screen, page) = live(80, false);
    screen.progress(ms(5), &epoch(1));
    assert_eq!(
        page.take(),
        "\r\x1b[Kepoch 1   1/20 [>.............]   2 workers"
    );
    screen.progress(ms(104), &epoch(2));
    assert_eq!(page.take(), "");
    screen.progress(ms(105), &epoch(3));
    assert_eq!(
        page.take(),
        "\r\x1b[Kepoch 1   3/20 [==>...........]   2 workers"
    );
    screen.epoch_finished(
        ms(110),
        &EpochLine {
            done: true,
            ..epoch(20)
        },
    );
    assert_eq!(
        page.take(),
        "\r\x1b[Kepoch 1  20/20 [==============]   2 workers\n"
    );
}

#[test]
fn a_message_goes_above_the_bar_which_is_drawn_again() {
    let (mut screen, page) = live(40, true);
    screen.line("before any bar");
    assert_eq!(page.take(), "before any bar\n");
    screen.progress(ms(0), &epoch(10));
    page.take();
    screen.headline(&Headline::new(Tone::Warning, "- worker 2 left: lost"));
    assert_eq!(
        page.take(),
        "\r\x1b[K\x1b[33m- worker 2 left: lost\x1b[0m\nepoch 1  10/20 [=====>....]   2 workers"
    );
    drop(screen);
    assert_eq!(page.take(), "\n");
}

#[test]
fn a_pipe_gets_plain_lines_and_few_of_them() {
    let page = Page::default();
    let mut screen = Screen::new(page.clone(), Terminal::PIPE);
    for now in (0..25_000).step_by(50) {
        screen.progress(ms(now), &epoch(now / 2000));
    }
    screen.line("+ worker 3 joined");
    screen.epoch_finished(
        ms(25_000),
        &EpochLine {
            done: true,
            ..epoch(20)
        },
    );
    screen.progress(ms(34_999), &epoch(1));
    drop(screen);
    assert_eq!(
        page.take(),
        "epoch 1   5/20   2 workers\n\
         epoch 1  10/20   2 workers\n\
         + worker 3 joined\n\
         epoch 1  20/20   2 workers\n"
    );
}

#[test]
fn a_closed_pipe_is_remembered_and_training_goes_on() {
    struct Closed(u32);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut screen = Screen::new(Closed(0), Terminal::PIPE);
    screen.line("one");
    screen.line("two");
    assert_eq!(screen.out.0, 1);
    assert_eq!(
        screen.failure().map(io::Error::kind),
        Some(io::ErrorKind::BrokenPipe)
    );
}

#[test]
fn what_the_output_can_do_follows_the_conventions() {
    let detect = |tty, asked, vars: &[(&str, &str)]| {
        Terminal::detect(tty, asked, |name| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        })
    };
    let terminal = |live, columns, colour| Terminal {
        live,
        columns,
        colour,
    };
    assert_eq!(
        detect(true, Some(100), &[("COLUMNS", "60")]),
        terminal(true, 100, true)
    );
    assert_eq!(
        detect(true, None, &[("COLUMNS", "60")]),
        terminal(true, 60, true)
    );
    assert_eq!(
        detect(true, Some(0), &[("COLUMNS", "many")]),
        terminal(true, 80, true)
    );
    assert_eq!(
        detect(true, None, &[("NO_COLOR", "1")]),
        terminal(true, 80, false)
    );
    assert_eq!(
        detect(true, None, &[("NO_COLOR", "")]),
        terminal(true, 80, true)
    );
    assert_eq!(
        detect(true, None, &[("TERM", "dumb")]),
        terminal(false, 80, false)
    );
    assert_eq!(detect(false, None, &[]), Terminal::PIPE);
}
