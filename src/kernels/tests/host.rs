//! The kernels on the processor.

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Argument, Machine};

/// `on_host.cc`, compiled: a folder that lives as long as it.
pub struct Host {
    folder: PathBuf,
}

impl Host {
    /// Compiles it, where there is a compiler.
    ///
    /// # Panics
    /// When the compiler refuses it.
    pub fn new() -> Result<Host, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ebbtide-kernels-{}-{count}", std::process::id());
        let host = Host {
            folder: std::env::temp_dir().join(name),
        };
        std::fs::create_dir(&host.folder).unwrap();
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernels/tests/on_host.cc");
        let compiled = Command::new(&compiler)
            .args([
                "-std=c++17",
                "-O2",
                "-ffp-contract=off",
                "-pthread",
                source,
                "-o",
            ])
            .arg(host.program())
            .output();
        match compiled {
            Ok(output) if output.status.success() => Ok(host),
            Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("there is no C++ compiler ({compiler})"))
            }
            Err(error) => panic!("{compiler}: {error}"),
        }
    }

    fn program(&self) -> PathBuf {
        self.folder.join("on_host")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Machine for Host {
    fn name(&self) -> &str {
        "the processor"
    }

    fn run(&self, kernel: &str, blocks: u32, threads: u32, arguments: &mut [Argument]) {
        let mut child = Command::new(self.program())
            .args([kernel, &blocks.to_string(), &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        for argument in &*arguments {
            let (Argument::Scalar(bytes) | Argument::Buffer(bytes)) = argument;
            input
                .write_all(&(bytes.len() as u64).to_le_bytes())
                .unwrap();
            input.write_all(bytes).unwrap();
        }
        drop(input); // it reads all before it answers
        let mut output = child.stdout.take().unwrap();
        for argument in arguments {
            if let Argument::Buffer(bytes) = argument {
                output.read_exact(bytes).unwrap();
            }
        }
        let status = child.wait().unwrap();
        assert!(status.success(), "{kernel}: {status}");
    }
}
