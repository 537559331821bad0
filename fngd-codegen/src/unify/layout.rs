//! A module's members and body with every number taken out and numbered.

use super::arguments::Value;
use super::design::Found;
use super::{Column, Entry, Member};
use crate::operation::Layer;
use crate::parts::{Group, Part, Role, visit, visit_layer};
use crate::tree::{Call, Content, Field, Statement};

/// The numbers of one module, in the order in which they stand in its type.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub members: Vec<Entry>,
    pub body: Vec<Statement>,
    pub slots: Vec<(Role, Option<Value>)>,
    /// Slots that say whether a member is there, and the slots of that member.
    pub related: Vec<(usize, Vec<usize>)>,
    /// The first slot of the body.
    pub body_from: usize,
}

impl Layout {
    /// Takes the module `index` apart. All of one type give the same members, body and number of slots.
    pub(super) fn of(found: &Found, index: usize) -> Self {
        let module = &found.tree.modules[index];
        let mut layout = Self::default();
        for field in &module.fields {
            let role = Role { name: "optional", group: Group::Presence };
            let presence = field.presence.map(|present| layout.push(role, Some(Value::Bool(present))));
            let from = layout.slots.len();
            let member = layout.member(found, index, field);
            if field.presence == Some(false) {
                layout.slots[from..].iter_mut().for_each(|(_, value)| *value = None);
            }
            layout.related.extend(presence.map(|slot| (slot, (from..layout.slots.len()).collect())));
            layout.members.push(Entry { key: field.key.clone(), member, presence });
        }
        layout.body_from = layout.slots.len();
        let mut body = module.body.clone();
        for statement in &mut body {
            if let Call::Operation(kind) = &mut statement.call {
                visit(kind, &mut |part| layout.take(part));
            }
        }
        layout.body = body;
        layout
    }

    fn member(&mut self, found: &Found, index: usize, field: &Field) -> Member {
        match &field.content {
            Content::Layer(layer) => {
                let mut layer: Layer = layer.clone();
                visit_layer(&mut layer, &mut |part| self.take(part));
                Member::Layer(layer)
            }
            Content::Tensor { dims, trainable } => {
                let role = Role { name: "size", group: Group::Width };
                let dims =
                    dims.iter().map(|dim| self.number(self.slots.len(), role, Some(Value::Integer(*dim)))).collect();
                Member::Tensor { dims, trainable: *trainable }
            }
            Content::Module(child) => {
                Member::Module { type_: found.type_of[*child], arguments: self.arguments(found, *child) }
            }
            Content::List(elements) => self.list(found, index, &field.key, elements),
        }
    }

    fn arguments(&mut self, found: &Found, child: usize) -> Vec<usize> {
        let values = found.arguments_of(child);
        values.into_iter().map(|(role, value)| self.push(role, value)).collect()
    }

    fn list(&mut self, found: &Found, index: usize, key: &str, elements: &[(String, usize)]) -> Member {
        // OK because a list was made of at least one member.
        let type_ = elements.first().map_or(0, |(_, element)| found.type_of[*element]);
        if let Some(values) = found.stage_arguments(type_, index, key) {
            let arguments = values.into_iter().map(|(role, value)| self.push(role, value)).collect();
            return Member::Stage { type_, arguments };
        }
        let rows = found.rows(elements);
        let (columns, count) = self.columns(&found.forms(type_), &rows);
        let (begin, start) = found.begin(elements);
        Member::List { type_, begin, start, count, columns }
    }

    /// Slots for the arguments of a list's elements, and for how many there are.
    pub(super) fn columns(&mut self, forms: &[(Role, Form)], rows: &[Vec<Option<Value>>]) -> (Vec<Column>, usize) {
        let value = |row: usize, column: usize| rows.get(row).and_then(|row| row[column].clone());
        // All of the first element come before those of the rest: they say what the numbers are.
        let mut columns: Vec<Column> = (forms.iter().enumerate())
            .map(|(column, (role, form))| match form {
                Form::Same => Column::Same(self.push(*role, value(0, column))),
                Form::FirstAndRest => Column::FirstAndRest(self.push(*role, value(0, column)), 0),
                Form::Each => {
                    let all = (0..rows.len()).map(|row| value(row, column).unwrap_or(Value::Integer(0))).collect();
                    Column::Each(self.push(Role { group: Group::Other, ..*role }, Some(Value::Many(all))))
                }
            })
            .collect();
        for (column, (role, _)) in forms.iter().enumerate() {
            if let Column::FirstAndRest(_, rest) = &mut columns[column] {
                *rest = self.push(*role, value(1, column));
            }
        }
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        (columns, self.push(Role { name: "blocks", group: Group::Count }, Some(Value::Integer(count))))
    }

    fn push(&mut self, role: Role, value: Option<Value>) -> usize {
        self.slots.push((role, value));
        self.slots.len() - 1
    }

    fn number(&mut self, slot: usize, role: Role, value: Option<Value>) -> i64 {
        self.slots.push((role, value));
        // OK because there are fewer numbers than bytes in the file.
        i64::try_from(slot).unwrap_or(i64::MAX)
    }

    fn take(&mut self, part: Part<'_>) {
        let slot = self.slots.len();
        match part {
            Part::Integer(number, role) => *number = self.number(slot, role, Some(Value::Integer(*number))),
            #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 numbers")]
            Part::Float(number, role) => *number = self.number(slot, role, Some(Value::Float(*number))) as f64,
            Part::Value(..) => (),
        }
    }
}

/// How an argument runs through a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Same,
    FirstAndRest,
    Each,
}
