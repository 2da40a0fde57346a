//! Record batches for Python, in and out, by the Arrow PyCapsule interface.

use arrow_array::ffi::FFI_ArrowArray;
use arrow_array::ffi_stream::RecordBatchStreamReader;
use arrow_array::{Array, RecordBatch as Table, RecordBatchIterator, StructArray};
use conntrack_core::sync::Turn;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::arrow_in;
use crate::connections::{schema, stream};

/// An Arrow record batch.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct ArrowBatch {
    table: Table,
}

impl ArrowBatch {
    /// A batch of these columns.
    pub fn new(table: Table) -> Self {
        Self { table }
    }
}

#[pymethods]
impl ArrowBatch {
    fn __len__(&self) -> usize {
        self.table.num_rows()
    }

    /// The schema, as the Arrow PyCapsule interface has it.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        schema(py, &self.table.schema())
    }

    /// A struct array, as the interface has it.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        drop(requested_schema);
        let array = FFI_ArrowArray::new(&StructArray::from(self.table.clone()).to_data());
        Ok((self.__arrow_c_schema__(py)?, PyCapsule::new_with_value(py, array, arrow_in::ARRAY)?))
    }

    /// An Arrow stream of one batch.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        stream(py, RecordBatchIterator::new([Ok(self.table.clone())], self.table.schema()))
    }
}

/// The batches of an Arrow stream from elsewhere, one by one.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct ArrowReader {
    reader: Turn<RecordBatchStreamReader>,
}

#[pymethods]
impl ArrowReader {
    #[new]
    fn new(source: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { reader: Turn::new(Box::new(arrow_in::reader(source)?)) })
    }

    /// The next batch; None at the end. Python code may produce the batch.
    fn next(&self) -> PyResult<Option<ArrowBatch>> {
        let mut turn = self.reader.take().ok_or_else(|| PyRuntimeError::new_err("another thread reads this stream"))?;
        let next = turn.next().transpose();
        self.reader.give_back(turn);
        Ok(next.map_err(arrow_in::refused)?.map(|table| ArrowBatch { table }))
    }
}
