//! What sessions do: who is connected, and what each has open, prepared and locked.

use super::rows::{Cell, Rows};
use super::source::Context;
use crate::function::{lock, oid};
use crate::runtime::locks::Key;
use crate::runtime::sessions::Activity;

/// Who is connected, and what each session does.
pub(super) fn sessions(context: &Context, rows: &mut Rows) {
    for one in context.session.sessions.list() {
        let (query, query_start) = one.query.map_or((None, None), |(text, began)| (Some(text), Some(began)));
        let waits = one.activity != Activity::Active;
        rows.push([
            ("datid", oid::of_database(&one.catalog).into()),
            ("datname", one.catalog.into()),
            ("pid", i64::from(one.process_id).into()),
            ("usesysid", oid::of_role(&one.user).into()),
            ("usename", one.user.into()),
            ("application_name", one.application.into()),
            ("backend_start", one.started.into()),
            ("xact_start", one.transaction.into()),
            ("query_start", query_start.into()),
            ("state_change", one.activity_since.into()),
            ("wait_event_type", waits.then_some("Client").into()),
            ("wait_event", waits.then_some("ClientRead").into()),
            ("state", one.activity.name().into()),
            ("query", query.as_deref().unwrap_or_default().into()),
            ("backend_type", "client backend".into()),
        ]);
    }
}

pub(super) fn cursors(context: &Context, rows: &mut Rows) {
    for one in context.session.cursors() {
        rows.push([
            ("name", one.name.into()),
            ("statement", one.statement.as_ref().into()),
            ("is_holdable", one.is_holdable.into()),
            ("is_binary", one.is_binary.into()),
            ("is_scrollable", one.is_scrollable.into()),
            ("creation_time", one.created.into()),
        ]);
    }
}

/// The statements that this session has prepared.
pub(super) fn statements(context: &Context, rows: &mut Rows) {
    for one in context.session.statements() {
        rows.push([
            ("name", one.name.into()),
            ("statement", one.statement.as_ref().into()),
            ("prepare_time", one.prepared.into()),
            ("parameter_types", Cell::Texts(one.parameter_types)),
            ("from_sql", one.from_sql.into()),
        ]);
    }
}

/// Advisory locks, the only ones that there are.
pub(super) fn locks(context: &Context, rows: &mut Rows) {
    for one in context.session.locks.list() {
        let (class, object, half) = match one.key {
            Key::One(key) => (key >> 32 & 0xffff_ffff, key & 0xffff_ffff, 1_i64),
            Key::Two(class, object) => {
                (i64::from(class.cast_unsigned()), i64::from(object.cast_unsigned()), 2)
            }
        };
        rows.push([
            ("locktype", "advisory".into()),
            ("database", oid::of_database(&one.owner.database).into()),
            ("classid", class.into()),
            ("objid", object.into()),
            ("objsubid", half.into()),
            ("pid", i64::from(one.owner.process_id).into()),
            ("mode", lock::mode_name(one.mode).into()),
            ("granted", one.granted.into()),
            ("fastpath", false.into()),
        ]);
    }
}
