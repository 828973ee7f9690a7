//! `--devices`: what a person asks for, and what it comes to on this node.

use std::fmt;
use std::str::FromStr;

use super::{Devices, Found, Gpu, REPLICAS_MAX};

/// `auto`, `cpu`, `cpu:N`, `cuda` or `cuda:0,2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All GPUs that this build can use; the processor where there is none.
    Auto,
    /// So many replicas on the processor.
    Cpu(usize),
    /// All GPUs, and no run without one.
    AllCuda,
    /// These GPUs.
    Cuda(Vec<u32>),
}

/// A `--devices` that names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no devices: expected auto, cpu, cpu:N (N from 1 to {REPLICAS_MAX}), cuda, or \
     cuda:0,2 (the GPUs' indices, each once)"
)]
pub struct AskedError(String);

/// What is used, and why, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// One replica each.
    pub devices: Devices,
    /// `"2 GPUs: NVIDIA L4, NVIDIA L4"`, `"the processor: this build knows no GPUs"`.
    pub why: String,
}

/// What was asked for isn't here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There are no GPUs for this build.
    #[error("--devices {asked}: no GPU can be used: {why}; --devices cpu trains on the processor")]
    NoGpu {
        /// As it was asked for.
        asked: Asked,
        /// What the driver or the build says.
        why: String,
    },
    /// An index too high.
    #[error(
        "--devices {asked}: there is no GPU {index}; `worker devices` lists those that are here ({here})"
    )]
    NoSuchGpu {
        /// As it was asked for.
        asked: Asked,
        /// What isn't there.
        index: u32,
        /// How many are.
        here: usize,
    },
    /// It is too old for this build, or its driver is.
    #[error("--devices {asked}: GPU {index} can't be used: {problem}")]
    TooOld {
        /// As it was asked for.
        asked: Asked,
        /// Its index.
        index: u32,
        /// Its name, what it lacks, and what to do about it.
        problem: String,
    },
}

impl Asked {
    /// What it comes to where these GPUs were found.
    ///
    /// # Errors
    /// What was asked for by name and isn't here, or this build can't use.
    pub fn choose(&self, found: &Found) -> Result<Chosen, Unusable> {
        match self {
            Asked::Cpu(replicas) => Ok(on_the_processor(*replicas, "as asked for")),
            Asked::Auto => Ok(all_usable(found)),
            Asked::AllCuda => {
                let all: Vec<u32> = found.gpus.iter().map(|gpu| gpu.index).collect();
                self.these(&all, found)
            }
            Asked::Cuda(indices) => self.these(indices, found),
        }
    }

    fn these(&self, indices: &[u32], found: &Found) -> Result<Chosen, Unusable> {
        let no_gpu = || Unusable::NoGpu {
            asked: self.clone(),
            why: found
                .why_none
                .clone()
                .unwrap_or_else(|| "none was found".to_owned()),
        };
        if found.gpus.is_empty() {
            return Err(no_gpu());
        }
        let mut gpus = Vec::new();
        for index in indices {
            let gpu = found.gpus.iter().find(|gpu| gpu.index == *index);
            let gpu = gpu.ok_or_else(|| Unusable::NoSuchGpu {
                asked: self.clone(),
                index: *index,
                here: found.gpus.len(),
            })?;
            if let Some(problem) = gpu.problem() {
                return Err(Unusable::TooOld {
                    asked: self.clone(),
                    index: *index,
                    problem,
                });
            }
            gpus.push(gpu);
        }
        on_gpus(&gpus).ok_or_else(no_gpu)
    }
}

/// What is left out is told: somebody pays for it.
fn all_usable(found: &Found) -> Chosen {
    let usable: Vec<&Gpu> = found
        .gpus
        .iter()
        .filter(|gpu| gpu.problem().is_none())
        .collect();
    let problems: Vec<String> = found.gpus.iter().filter_map(Gpu::problem).collect();
    let problems = problems.join("; ");
    match (on_gpus(&usable), &found.why_none) {
        (Some(mut chosen), _) => {
            if !problems.is_empty() {
                chosen.why = format!("{}; not used: {problems}", chosen.why);
            }
            chosen
        }
        (None, Some(why)) => on_the_processor(1, why),
        (None, None) => on_the_processor(1, &problems),
    }
}

fn on_gpus(gpus: &[&Gpu]) -> Option<Chosen> {
    let indices: Vec<u32> = gpus.iter().map(|gpu| gpu.index).collect();
    let names: Vec<&str> = gpus.iter().map(|gpu| &gpu.name[..]).collect();
    let count = match names.len() {
        1 => "1 GPU".to_owned(),
        n => format!("{n} GPUs"),
    };
    Some(Chosen {
        devices: Devices::cuda(&indices)?,
        why: format!("{count}: {}", names.join(", ")),
    })
}

fn on_the_processor(replicas: usize, why: &str) -> Chosen {
    Chosen {
        devices: Devices::cpu(replicas),
        why: format!("the processor: {why}"),
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Auto => f.write_str("auto"),
            Asked::AllCuda => f.write_str("cuda"),
            Asked::Cpu(1) => f.write_str("cpu"),
            Asked::Cpu(n) => write!(f, "cpu:{n}"),
            Asked::Cuda(indices) => {
                let indices: Vec<String> = indices.iter().map(u32::to_string).collect();
                write!(f, "cuda:{}", indices.join(","))
            }
        }
    }
}

impl FromStr for Asked {
    type Err = AskedError;

    fn from_str(text: &str) -> Result<Self, AskedError> {
        let problem = || AskedError(text.to_owned());
        match (text, text.split_once(':')) {
            ("auto", _) => Ok(Asked::Auto),
            ("cpu", _) => Ok(Asked::Cpu(1)),
            ("cuda", _) => Ok(Asked::AllCuda),
            (_, Some(("cpu", count))) => match count.parse() {
                Ok(count @ 1..=REPLICAS_MAX) => Ok(Asked::Cpu(count)),
                _ => Err(problem()),
            },
            (_, Some(("cuda", list))) => {
                let indices: Result<Vec<u32>, _> = list.split(',').map(str::parse).collect();
                let indices = indices.map_err(|_| problem())?;
                let mut once = indices.clone();
                once.sort_unstable();
                once.dedup();
                match once.len() == indices.len() && once.len() <= REPLICAS_MAX {
                    true => Ok(Asked::Cuda(indices)),
                    false => Err(problem()),
                }
            }
            _ => Err(problem()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::found::Needs;
    use super::*;

    fn gpu(index: u32, name: &str, capability: (u32, u32)) -> Gpu {
        Gpu {
            index,
            name: name.to_owned(),
            uuid: format!("GPU-{index}"),
            memory: 24 << 30,
            capability,
            driver: (13, 0),
            needs: Needs {
                capability: (8, 0),
                driver: (13, 0),
            },
        }
    }

    fn node(gpus: &[Gpu]) -> Found {
        Found {
            gpus: gpus.to_vec(),
            why_none: gpus.is_empty().then(|| "there is no driver".to_owned()),
        }
    }

    fn asked(text: &str) -> Asked {
        text.parse().unwrap()
    }

    #[test]
    fn devices_are_named_as_on_the_command_line() {
        for text in ["auto", "cpu", "cpu:3", "cuda", "cuda:0", "cuda:2,0"] {
            assert_eq!(asked(text).to_string(), text);
        }
        for text in [
            "", "gpu", "cpu:", "cpu:0", "cpu:65", "cpu:-1", "cpu:two", "cuda:", "cuda:a",
            "cuda:1,1", "cuda:0,", "mps:0",
        ] {
            let error = text.parse::<Asked>().unwrap_err().to_string();
            assert!(error.contains("cuda:0,2"), "{error}");
        }
    }

    #[test]
    fn auto_takes_all_gpus_that_this_build_can_use_else_the_processor_and_says_why() {
        let two = [gpu(0, "L4", (8, 9)), gpu(1, "H200", (9, 0))];
        let chosen = Asked::Auto.choose(&node(&two)).unwrap();
        assert_eq!(chosen.devices.to_string(), "cuda:0,1");
        assert_eq!(chosen.why, "2 GPUs: L4, H200");

        let chosen = Asked::Auto.choose(&node(&[])).unwrap();
        assert_eq!(chosen.devices, Devices::cpu(1));
        assert_eq!(chosen.why, "the processor: there is no driver");

        let mixed = [gpu(0, "Tesla T4", (7, 5)), gpu(1, "L4", (8, 9))];
        let chosen = Asked::Auto.choose(&node(&mixed)).unwrap();
        assert_eq!(chosen.devices.to_string(), "cuda:1");
        assert!(
            chosen.why.starts_with("1 GPU: L4; not used: Tesla T4"),
            "{}",
            chosen.why
        );
        let chosen = Asked::Auto.choose(&node(&mixed[..1])).unwrap();
        assert_eq!(chosen.devices, Devices::cpu(1));
        assert!(chosen.why.contains("CUDA_COMPUTE_CAP=75"), "{}", chosen.why);
    }

    #[test]
    fn gpus_asked_for_have_to_be_there_and_usable() {
        let node = node(&[gpu(0, "Tesla V100", (7, 0)), gpu(1, "L4", (8, 9))]);
        let chosen = asked("cuda:1").choose(&node).unwrap();
        assert_eq!(chosen.devices.to_string(), "cuda:1");
        refuses("cuda", &node, &["Tesla V100", "CUDA 13", "--devices cpu"]);
        refuses("cuda:4", &node, &["no GPU 4", "worker devices"]);
    }

    #[test]
    fn without_a_gpu_the_error_says_why_and_what_to_do() {
        let nothing = node(&[]);
        for text in ["cuda", "cuda:0"] {
            refuses(text, &nothing, &["there is no driver", "--devices cpu"]);
        }
    }

    #[test]
    fn an_old_driver_is_refused_with_the_one_that_is_needed() {
        let mut old = gpu(0, "L4", (8, 9));
        old.driver = (12, 4);
        let node = node(&[old]);
        refuses("cuda", &node, &["L4", "12.4", "13.0", "580"]);
        let chosen = Asked::Auto.choose(&node).unwrap();
        assert_eq!(chosen.devices, Devices::cpu(1));
        assert!(chosen.why.contains("580"), "{}", chosen.why);
    }

    #[track_caller]
    fn refuses(text: &str, node: &Found, words: &[&str]) {
        let error = asked(text).choose(node).unwrap_err().to_string();
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{words:?} in {error}"
        );
    }
}
