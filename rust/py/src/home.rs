//! The process that an object belongs to.
//!
//! `fork` copies the forking thread alone (POSIX.1-2024, fork). A call that another thread was in never ends in the child:
//! its locks stay held, its work stays half done. The child refuses such an object, and adopts any other.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The process of an object, and the number of calls in progress.
pub struct Home {
    process: AtomicU32,
    calls: AtomicUsize,
}

/// A call in progress.
pub struct Visit<'a>(&'a Home);

impl Default for Home {
    fn default() -> Self {
        Self { process: std::process::id().into(), calls: AtomicUsize::new(0) }
    }
}

impl Home {
    /// Test for the process of the last call.
    pub fn is_here(&self) -> bool {
        self.process.load(Ordering::Acquire) == std::process::id()
    }

    /// Begins a call; an error in a child of the process where a call was in progress at the fork. `what` names the object.
    pub fn enter(&self, what: &str) -> PyResult<Visit<'_>> {
        if !self.is_here() {
            // Another thread of the child may adopt the object at the same time, and has then begun its call.
            if self.calls.load(Ordering::Acquire) == 0 {
                self.process.store(std::process::id(), Ordering::Release);
            } else if !self.is_here() {
                let home = self.process.load(Ordering::Acquire);
                return Err(PyRuntimeError::new_err(format!(
                    "another thread was in a call of this {what} when process {home} was forked, and the call never ends \
                     in the child: make a {what} after the fork"
                )));
            }
        }
        self.calls.fetch_add(1, Ordering::AcqRel);
        Ok(Visit(self))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}
