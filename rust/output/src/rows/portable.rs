//! Rows as bytes, for another process of the same release: the form of a checkpoint, with the networks of the run.

use std::io::{self, Read, Write};
use std::sync::Arc;

use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_track::config::{Config, Zone};
use conntrack_track::direction::Locality;

use super::beside::Beside;
use super::packed::{Overflow, Packed};
use super::segments::Segments;
use super::told::facts_of;
use super::{Row, Rows};

/// Networks as text, and zones with their networks.
type Networks = (Vec<String>, Vec<(String, Vec<String>)>);

/// Writes rows, in their order, and the networks of their run.
pub fn save<'a>(
    rows: impl ExactSizeIterator<Item = Row<'a>> + Clone,
    locality: &Locality,
    out: &mut Writer<'_, impl Write>,
) -> io::Result<()> {
    let text = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    let zones = locality.zones().iter().map(|zone| (zone.name.clone(), text(&zone.networks)));
    out.put(&(text(locality.local()), zones.collect::<Vec<_>>()))?;
    let mut overflow = Overflow::default();
    let mut packed = Segments::default();
    let beside = facts_of(rows.clone());
    for row in rows {
        packed.push(row.packed.copied(&row.rows.overflow, &mut overflow));
    }
    out.put_all(overflow.addrs.len(), overflow.addrs.iter())?;
    out.put_all(overflow.rare.len(), overflow.rare.iter())?;
    out.put_all(packed.len(), packed.iter())?;
    out.put(&beside)
}

/// Reads what [`save`] wrote, with the names of the zones.
pub fn load(from: &mut Reader<impl Read>) -> Result<(Rows, Vec<String>), CheckpointError> {
    let (local, zones): Networks = from.get()?;
    let networks = |texts: Vec<String>| texts.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
    let damaged = |_| CheckpointError::damaged("a network is none");
    let zones = zones.into_iter().map(|(name, nets)| Ok(Zone { name, networks: networks(nets).map_err(damaged)? }));
    let zones = zones.collect::<Result<Vec<_>, CheckpointError>>()?;
    if zones.len() > usize::from(u16::MAX) {
        return Err(CheckpointError::damaged("there are too many zones"));
    }
    let names = zones.iter().map(|zone| zone.name.clone()).collect();
    let config = Config { local: networks(local).map_err(damaged)?, zones, ..Config::default() };
    let mut overflow = Overflow::default();
    from.get_all(|addrs| {
        overflow.addrs.push(addrs);
        Ok(())
    })?;
    from.get_all(|rare| {
        overflow.rare.push(rare);
        Ok(())
    })?;
    let mut packed = Segments::default();
    from.get_all(|row: Packed| {
        if !row.is_sound(&overflow) {
            return Err(CheckpointError::damaged("a row contradicts itself"));
        }
        packed.push(row);
        Ok(())
    })?;
    packed.close();
    let beside: Option<Box<Beside>> = from.get()?;
    if beside.as_deref().is_some_and(|beside| !beside.is_sound()) {
        return Err(CheckpointError::damaged("facts contradict each other"));
    }
    Ok((Rows { packed, overflow, locality: Arc::new(Locality::new(&config)), beside }, names))
}
