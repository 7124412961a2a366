//! Batches and actors by id, read in the partitions that their ids say.

use crate::pg::spi::{Query, uuid};
use crate::pg::tables::scan::{ById, Fields};
use crate::pg::tables::table;
use pg_tenancy_core::audit::format::month::Month;
use pg_tenancy_core::error::{self, Result};
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::rc::Rc;
use uuid::Uuid;

/// In which partition a row is that is not in the one that its id says. Planned for the parent, so it finds any.
static BATCH_PARTITION: Query = Query::new(
    "SELECT c.relname::text FROM tenancy.event_batch e JOIN pg_class c ON c.oid = e.tableoid
      WHERE e.id = $1",
);
static ACTOR_PARTITION: Query = Query::new(
    "SELECT c.relname::text FROM tenancy.event_actor a JOIN pg_class c ON c.oid = a.tableoid
      WHERE a.id = $1",
);

/// How many partitions of a table are open at a time: around midnight of the first, chains alternate between two.
const OPEN: usize = 4;

/// A table whose partitions are months, which ids begin with.
pub struct Partitions {
    name: &'static str,
    elsewhere: &'static Query,
    open: VecDeque<(CString, Option<ById>)>,
    /// A day, in days since 1970, and the partition that its ids are in.
    day: Option<(i64, Rc<CStr>)>,
}

impl Partitions {
    /// Those of `tenancy.event_batch`.
    pub fn of_batches() -> Self {
        Partitions::new("event_batch", &BATCH_PARTITION)
    }

    /// Those of `tenancy.event_actor`.
    pub fn of_actors() -> Self {
        Partitions::new("event_actor", &ACTOR_PARTITION)
    }

    fn new(name: &'static str, elsewhere: &'static Query) -> Self {
        Partitions { name, elsewhere, open: VecDeque::new(), day: None }
    }

    /// The row with this id, if it is in the partition that the id says.
    pub fn find_in_place(&mut self, id: &Uuid) -> Option<Fields<'_>> {
        let name = self.name_for(id);
        self.partition(&name)?.find(id)
    }

    /// Hands the row with this id to `read`.
    pub fn find<T>(&mut self, id: &Uuid, read: impl FnOnce(&Fields) -> T) -> Result<Option<T>> {
        if let Some(fields) = self.find_in_place(id) {
            return Ok(Some(read(&fields)));
        }
        let Some(name) = self.elsewhere.read(&[uuid(*id)], |row| row.get::<String>(1)).pop().flatten() else {
            return Ok(None);
        };
        let name = CString::new(name).unwrap_or_default();
        match self.partition(&name).and_then(|partition| partition.find(id)) {
            Some(fields) => Ok(Some(read(&fields))),
            None => {
                Err(error::STATE_INVALID
                    .error(format!("partition tenancy.{} has no primary key", name.to_string_lossy())))
            }
        }
    }

    /// The partition that the id should be in.
    fn name_for(&mut self, id: &Uuid) -> Rc<CStr> {
        let seconds = id.get_timestamp().map_or(0, |at| at.to_unix().0.cast_signed());
        let day = seconds / 86_400;
        if let Some((_, name)) = self.day.as_ref().filter(|(of, _)| *of == day) {
            return Rc::clone(name);
        }
        let month = Month::of(seconds.saturating_mul(1_000_000));
        let name = CString::new(format!("{}_{}", self.name, month.suffix())).unwrap_or_default();
        let name = Rc::from(name.into_boxed_c_str());
        self.day = Some((day, Rc::clone(&name)));
        name
    }

    fn partition(&mut self, name: &CStr) -> Option<&mut ById> {
        if let Some(place) = self.open.iter().position(|(open, _)| open.as_c_str() == name) {
            return self.open[place].1.as_mut();
        }
        self.open.truncate(OPEN - 1);
        let opened = if table::is_partition(name) { ById::open(name) } else { None };
        self.open.push_front((name.to_owned(), opened));
        self.open[0].1.as_mut()
    }
}
