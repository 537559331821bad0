//! How the arguments of a type run through the lists of it, and the functions that make such lists.

use super::arguments::{Slot, Value, decide};
use super::design::Found;
use super::layout::{Form, Layout};
use super::{Column, Stage};
use crate::parts::Role;
use crate::tree::{Content, number};
use std::collections::BTreeSet;

/// A list, as a field of a module.
pub(super) struct Site<'a> {
    pub module: usize,
    pub key: &'a str,
    pub elements: &'a [(String, usize)],
}

impl Found {
    /// All lists of a type.
    pub(super) fn sites(&self, type_: usize) -> Vec<Site<'_>> {
        let mut sites = Vec::new();
        for (module, found) in self.tree.modules.iter().enumerate() {
            for field in &found.fields {
                if let Content::List(elements) = &field.content
                    && elements.first().is_some_and(|(_, element)| self.type_of[*element] == type_)
                {
                    sites.push(Site { module, key: &field.key, elements });
                }
            }
        }
        sites
    }

    /// The arguments of each element.
    pub(super) fn rows(&self, elements: &[(String, usize)]) -> Vec<Vec<Option<Value>>> {
        let row = |element: usize| self.arguments_of(element).into_iter().map(|(_, value)| value).collect();
        elements.iter().map(|(_, element)| row(*element)).collect()
    }

    /// Per argument, the simplest form that fits all lists of the type.
    pub(super) fn forms(&self, type_: usize) -> Vec<(Role, Form)> {
        let lists: Vec<_> = self.sites(type_).iter().map(|site| self.rows(site.elements)).collect();
        let form = |column: usize| {
            let of_list = |rows: &Vec<Vec<Option<Value>>>| {
                let is_same =
                    |rows: &[Vec<Option<Value>>]| rows.windows(2).all(|pair| pair[0][column] == pair[1][column]);
                match () {
                    () if is_same(rows) => Form::Same,
                    () if is_same(rows.get(1..).unwrap_or_default()) => Form::FirstAndRest,
                    () => Form::Each,
                }
            };
            lists.iter().map(of_list).max().unwrap_or(Form::Same)
        };
        let arguments = self.types[type_].arguments.iter().enumerate();
        let mut forms: Vec<(Role, Form)> = arguments.map(|(column, argument)| (argument.role, form(column))).collect();
        // A list that is written by element says what the first one has too.
        if forms.iter().any(|(_, form)| *form == Form::Each) {
            forms.iter_mut().filter(|(_, form)| *form == Form::FirstAndRest).for_each(|(_, form)| *form = Form::Each);
        }
        forms
    }

    /// What the first element of a list is called, without and with its number.
    pub(super) fn begin(&self, elements: &[(String, usize)]) -> (String, u64) {
        let first = elements.first().map_or("", |(key, _)| key.as_str());
        let begin = first.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        (begin, number(first).unwrap_or(0))
    }

    /// A function for the lists of a type, if there are several whose text would be long.
    pub(super) fn stage(&self, type_: usize) -> Option<Stage> {
        let sites = self.sites(type_);
        let forms = self.forms(type_);
        let places: BTreeSet<(usize, &str)> = sites.iter().map(|site| (self.type_of[site.module], site.key)).collect();
        let begins: BTreeSet<(String, u64)> = sites.iter().map(|site| self.begin(site.elements)).collect();
        let is_long = forms.iter().any(|(_, form)| *form == Form::FirstAndRest) || places.len() > 2;
        if places.len() < 2 || begins.len() > 1 || !is_long || forms.iter().any(|(_, form)| *form == Form::Each) {
            return None;
        }
        let (mut columns, mut count): (Vec<Column>, usize) = (Vec::new(), 0);
        let mut slots: Vec<Slot> = Vec::new();
        for site in &sites {
            let mut layout = Layout::default();
            (columns, count) = layout.columns(&forms, &self.rows(site.elements));
            slots.resize_with(layout.slots.len(), || Slot { role: layout.slots[0].0, values: Vec::new() });
            for (slot, (role, value)) in slots.iter_mut().zip(layout.slots) {
                slot.role = role;
                slot.values.push(value);
            }
        }
        let (arguments, slots) = decide(&slots, &[]);
        let (begin, start) = begins.into_iter().next()?;
        Some(Stage { arguments, slots, begin, start, count, columns })
    }
}
