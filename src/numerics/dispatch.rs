//! One portable binary, and vector instructions where the processor has them.
//!
//! A kernel is written once, as a plain inlined function. `dispatched!`
//! compiles it again with wider instruction sets enabled and picks one at run
//! time. The bits don't depend on the choice: Rust neither contracts a product
//! and a sum into one rounding nor reorders a floating-point reduction, so a
//! wider instruction set only changes how many elements are done at a time.
//! Each kernel has a test that says so.

/// An instruction set that this processor has. Only made by asking the
/// processor, so holding one is the proof that its instructions may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(LevelKind);

/// The compiled variants, from narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LevelKind {
    /// What the target guarantees (SSE2 on x86-64, NEON on aarch64).
    Scalar,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors: the F, BW, DQ and VL parts.
    Avx512,
}

impl Level {
    /// The narrowest level: always there.
    pub const SCALAR: Level = Level(LevelKind::Scalar);

    /// The widest level of this processor.
    pub fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            // The standard library asks the processor once and remembers.
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") {
                let wide =
                    has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
                return Level(if wide {
                    LevelKind::Avx512
                } else {
                    LevelKind::Avx2
                });
            }
        }
        Level::SCALAR
    }

    /// Every level of this processor, from narrow to wide: what a test of equal
    /// bits walks through.
    pub fn all() -> impl Iterator<Item = Level> {
        [LevelKind::Scalar, LevelKind::Avx2, LevelKind::Avx512]
            .into_iter()
            .map(Level)
            .filter(|level| *level <= Level::best())
    }

    /// Which variant this is.
    pub fn kind(self) -> LevelKind {
        self.0
    }

    /// The level's name in a fingerprint.
    pub fn name(self) -> &'static str {
        match self.0 {
            LevelKind::Scalar => std::env::consts::ARCH,
            LevelKind::Avx2 => "avx2",
            LevelKind::Avx512 => "avx512",
        }
    }
}

/// Declares a function that runs `body` compiled for the [`Level`] it is given:
///
/// ```text
/// dispatched! {
///     /// Adds `xs` to `sum`.
///     fn add(xs: &[f32], sum: &mut [f32]) = add_body;
/// }
/// add(Level::best(), &xs, &mut sum);
/// ```
///
/// `body` has to be `#[inline(always)]`, or it is compiled once for all.
macro_rules! dispatched {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? = $body:path;) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::numerics::dispatch::Level, $($arg: $ty),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::numerics::dispatch::LevelKind;

                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $out)? {
                    $body($($arg),*)
                }

                #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) $(-> $out)? {
                    $body($($arg),*)
                }

                match level.kind() {
                    LevelKind::Scalar => {}
                    // SAFETY: a `Level` of this kind exists only where the processor has AVX2.
                    LevelKind::Avx2 => return unsafe { avx2($($arg),*) },
                    // SAFETY: a `Level` of this kind exists only where the processor has AVX2
                    // and the four parts of AVX-512 named above.
                    LevelKind::Avx512 => return unsafe { avx512($($arg),*) },
                }
            }
            let _ = level;
            $body($($arg),*)
        }
    };
}
pub(crate) use dispatched;
