//! Standard streams and terminals.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::bundle::{Bundle, DebianRoot};
use tests::husk::{self, Container};
use tests::leaks::watched;
use tests::terminal::Terminal;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_hundred_megabytes_pass_through_intact() -> Result<()> {
    watched(|| {
        let mut input = vec![0; 100 << 20];
        let mut state = 1_u64;
        for word in input.chunks_exact_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&state.to_le_bytes());
        }
        let dir = tempfile::TempDir::with_prefix("husk-input-")?;
        let (from, to) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::write(&from, &input)?;
        let bundle = Bundle::busybox()?.args(&["cat"])?;
        let mut run = Command::new("husk");
        run.args(["run", &husk::unique_id()])
            .current_dir(bundle.path());
        run.stdin(std::fs::File::open(&from)?)
            .stdout(std::fs::File::create(&to)?);
        ensure!(tests::output::wait(&mut run.spawn()?, Duration::from_secs(300))?.success());
        ensure!(std::fs::read(&to)? == input, "what came back differs");
        Ok(())
    })
}

#[test]
fn the_end_of_input_reaches_the_program_while_its_output_goes_on() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.shell("wc -c; sleep 1; echo after")?;
        let out = husk::run_with_input(&bundle, &[b'x'; 4321])?;
        ensure!(
            out.ok().split_whitespace().collect::<Vec<_>>() == ["4321", "after"],
            "{out:?}"
        );
        Ok(())
    })
}

#[test]
fn a_terminal_session_has_job_control_and_follows_the_window() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sh"])?.terminal()?;
        let mut command = Command::new("husk");
        command
            .args(["run", &husk::unique_id()])
            .current_dir(bundle.path());
        let mut terminal = Terminal::start(&mut command)?;
        terminal.expect("# ", LONG)?;
        terminal.type_keys("tty; stty size\n")?;
        terminal.expect("/dev/pts/0", LONG)?;
        terminal.expect("24 80", LONG)?;
        terminal.resize(50, 132)?;
        terminal.type_keys("sleep 0.5; stty size\n")?;
        terminal.expect("50 132", LONG)?;
        terminal.type_keys("sleep 1000\n")?;
        std::thread::sleep(Duration::from_secs(1));
        terminal.type_keys("\u{1a}")?;
        terminal.expect("Stopped", LONG)?;
        terminal.type_keys("fg\n")?;
        std::thread::sleep(Duration::from_secs(1));
        terminal.type_keys("\u{3}")?;
        terminal.type_keys("echo st''atus $?\n")?;
        terminal.expect("status 130", LONG)?;
        terminal.type_keys("exit 9\n")?;
        ensure!(terminal.finish(LONG)? == 9);
        Ok(())
    })
}

#[test]
fn exec_has_a_terminal_of_its_own() -> Result<()> {
    watched(|| {
        let bundle = Bundle::busybox()?.args(&["sleep", "1000"])?;
        let container = Container::running(&bundle)?;
        let mut command = Command::new("husk");
        command.args([
            "exec",
            "--tty",
            container.id(),
            "sh",
            "-c",
            "tty; stty size; exit 4",
        ]);
        let mut terminal = Terminal::start(&mut command)?;
        terminal.expect("/dev/pts/0", LONG)?;
        terminal.expect("24 80", LONG)?;
        ensure!(terminal.finish(LONG)? == 4);
        Ok(())
    })
}

#[test]
fn a_debian_root_file_system_works() -> Result<()> {
    watched(|| {
        let debian = DebianRoot::new()?;
        let apt = husk::run(&Bundle::debian(&debian)?.args(&["apt-get", "--version"])?)?;
        ensure!(apt.ok().starts_with("apt "), "{apt:?}");
        let python = husk::run(&Bundle::debian(&debian)?.args(&["python3", "-c", "print(1)"])?)?;
        ensure!(python.ok() == "1", "{python:?}");
        Ok(())
    })
}
