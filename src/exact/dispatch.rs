//! One kernel body, compiled for three instruction sets.
//!
//! The portable binary targets plain x86-64, but the kernels are several times
//! faster with wider vectors. So each body is an `#[inline(always)]` function
//! that the compiler vectorises, and [`dispatched!`] wraps it once for each
//! instruction set; the wrapper is picked at run time. The bits can't differ: the
//! bodies use only integer operations and individually rounded IEEE ones, and
//! Rust never contracts a product and a sum into one rounding. The tests
//! compare all levels that the machine has.

use std::fmt;

/// An instruction set that this CPU has, so holding one is the proof that the
/// kernels compiled for it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The widest level of this CPU. The standard library asks the CPU once and
    /// remembers the answer, so this is a few loads.
    #[inline]
    pub fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Level(Kind::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                return Level(Kind::Avx2);
            }
        }
        Level(Kind::Portable)
    }

    /// All levels of this CPU, narrowest first.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut, reason = "only x86-64 has more than one level")]
        let mut levels = vec![Level(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                levels.push(Level(Kind::Avx2));
            }
            if has_avx512() {
                levels.push(Level(Kind::Avx512));
            }
        }
        levels
    }

    pub(super) fn kind(self) -> Kind {
        self.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        })
    }
}

/// The parts of AVX-512 that every server CPU with it has had since 2017.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// Makes `fn name(level, args...)` from an `#[inline(always)]` body: the body
/// compiled for each level, and the choice between them.
macro_rules! dispatched {
    (
        $(#[$doc:meta])*
        $visibility:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:expr;
    ) => {
        $(#[$doc])*
        $visibility fn $name(level: $crate::exact::dispatch::Level, $($arg: $type),*) $(-> $result)? {
            use $crate::exact::dispatch::Kind;

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) $(-> $result)? {
                $body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
            fn avx512($($arg: $type),*) $(-> $result)? {
                $body($($arg),*)
            }

            match level.kind() {
                Kind::Portable => $body($($arg),*),
                // SAFETY: a `Level` of this kind is only made where the CPU was found to have AVX2.
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: a `Level` of this kind is only made where the CPU was found to have these
                // four parts of AVX-512.
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}

pub(super) use dispatched;
