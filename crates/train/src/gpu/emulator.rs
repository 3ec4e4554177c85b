//! `emulator.cpp` as a [`Launcher`], whose memory is the process's own.

use std::ffi::{CString, c_char, c_void};

use candle_core::{Error, Result};

use super::{Launch, Launcher, Parameters};

unsafe extern "C" {
    fn knockline_emulate(
        name: *const c_char,
        blocks: u32,
        threads: u32,
        shared_bytes: u32,
        parameters: *const c_void,
        size: usize,
    ) -> bool;
}

/// Runs kernels on the CPU, one thread at a time and slowly.
pub struct Emulator;

// SAFETY: a box keeps its address and size, and `launch` returns when the kernel is done.
unsafe impl Launcher for Emulator {
    type Words = Box<[u32]>;

    fn put(&self, words: &[u32]) -> Result<Self::Words> {
        Ok(words.into())
    }

    fn zeros(&self, words: usize) -> Result<Self::Words> {
        Ok(vec![0; words].into())
    }

    fn get(&self, words: &Self::Words) -> Result<Vec<u32>> {
        Ok(words.to_vec())
    }

    fn size(&self, words: &Self::Words) -> usize {
        words.len()
    }

    fn address(&self, words: &mut Self::Words) -> u64 {
        words.as_mut_ptr() as u64
    }

    fn most_blocks(&self) -> Result<u32> {
        Ok(3)
    }

    unsafe fn launch<P: Parameters>(&self, launch: Launch, parameters: &P) -> Result<()> {
        // The emulator keeps its state in globals, so it can run only one kernel at a time.
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one = ONE.lock().map_err(|e| Error::Msg(e.to_string()))?;
        let name = CString::new(launch.kernel).map_err(Error::wrap)?;
        let shared = u32::try_from(4 * launch.shared).map_err(Error::wrap)?;
        // SAFETY: the emulator refuses parameters of another size; the caller guarantees the
        // addresses among them.
        let known = unsafe {
            knockline_emulate(
                name.as_ptr(),
                launch.blocks,
                launch.threads,
                shared,
                std::ptr::from_ref(parameters).cast(),
                size_of::<P>(),
            )
        };
        if known {
            Ok(())
        } else {
            Err(Error::Msg(format!("no kernel `{}` takes {} bytes", launch.kernel, size_of::<P>())))
        }
    }
}
