//! Prefix-preserving names for addresses, networks and tables.

use std::net::IpAddr;
use std::sync::Arc;

use conntrack_core::anonymise::Anonymiser as Core;
use conntrack_core::rows::renamed;
use ipnet::IpNet;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::connections::Connections;
use crate::table::{Run, Table};

/// Names by a key.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Anonymiser {
    core: Core,
    /// The run of all tables, whose `uid`s come from names alone.
    run: Arc<Run>,
}

impl Anonymiser {
    /// The core's form.
    pub fn core(&self) -> &Core {
        &self.core
    }
}

#[pymethods]
impl Anonymiser {
    #[new]
    fn new(key: [u8; 32]) -> Self {
        Self { core: Core::new(key), run: Arc::default() }
    }

    /// The name of an address.
    fn address(&self, address: &str) -> PyResult<String> {
        let addr: IpAddr =
            address.parse().map_err(|_| PyValueError::new_err(format!("found {address:?}, expected an address")))?;
        Ok(self.core.addr(addr).to_string())
    }

    /// The name of a network.
    fn network(&self, network: &str) -> PyResult<String> {
        let net: IpNet =
            network.parse().map_err(|_| PyValueError::new_err(format!("found {network:?}, expected a network")))?;
        Ok(self.core.network(net).to_string())
    }

    /// The table with names for addresses.
    fn table(&self, py: Python<'_>, connections: &Connections) -> Connections {
        let Table { rows, columns, zones, .. } = connections.table();
        let rows = py.detach(|| renamed(rows.iter(), rows.locality(), &self.core));
        let (columns, zones, run) = (columns.clone(), zones.clone(), self.run.clone());
        Connections::of_table(Table { rows: rows.into(), columns, zones, run })
    }
}
