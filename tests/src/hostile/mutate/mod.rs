//! Mutants: good files with one to three things wrong.

mod bytes;
mod forms;
mod graph;
mod numbers;
mod operators;
mod storage;

use super::random::Random;
use super::wire::{Kind, Message};
use super::{Case, SEEDS};

/// A kind of damage.
struct Mutation {
    name: &'static str,
    /// How often it is chosen among the others.
    weight: usize,
    apply: fn(&mut Message, &mut Random),
}

const fn mutation(name: &'static str, weight: usize, apply: fn(&mut Message, &mut Random)) -> Mutation {
    Mutation { name, weight, apply }
}

const MUTATIONS: &[Mutation] = &[
    mutation("attribute value", 3, numbers::attribute_value),
    mutation("attribute type", 1, numbers::attribute_type),
    mutation("attribute added", 3, operators::add_attribute),
    mutation("dims of a tensor", 2, numbers::tensor_dims),
    mutation("dims of a value", 2, numbers::value_dims),
    mutation("element type", 2, numbers::element_type),
    mutation("contents of a tensor", 3, numbers::tensor_contents),
    mutation("any number", 1, numbers::any_number),
    mutation("operator set", 1, numbers::operator_set),
    mutation("input rewired", 3, graph::rewire),
    mutation("inputs added or taken", 1, graph::change_arity),
    mutation("node doubled, moved or taken", 2, graph::rearrange),
    mutation("names that collide", 1, graph::rename),
    mutation("domain", 1, graph::domain),
    mutation("any field doubled, moved or taken", 2, graph::any_field),
    mutation("subgraph", 1, graph::nest),
    mutation("local function", 1, graph::function),
    mutation("operator replaced", 3, operators::replace),
    mutation("operator added", 12, operators::insert),
    mutation("external data", 2, storage::external_data),
    mutation("storage of a tensor", 1, storage::other_field),
];

/// What was done to a file.
pub struct Mutant {
    pub bytes: Vec<u8>,
    /// The kinds of damage.
    pub damage: Vec<&'static str>,
}

/// The mutant of this number of `seed`, the contents of its file.
pub fn mutant(case: Case, seed: &[u8]) -> Mutant {
    let mut random = Random::of(SEEDS[case.seed], case.number);
    let mut damage = Vec::new();
    // One in eight is damaged below the level of messages, half of these above as well.
    let in_bytes = random.once_in(8);
    let mut file = seed.to_vec();
    if !in_bytes || random.once_in(2) {
        // OK because a test reads every seed file.
        let mut model = Message::read(Kind::Model, seed).expect("a seed file is a model");
        for _ in 0..random.of_these(&[1, 1, 1, 2, 3]) {
            let mutation = choose(&mut random);
            (mutation.apply)(&mut model, &mut random);
            damage.push(mutation.name);
        }
        file = model.write();
    }
    if in_bytes {
        damage.push(bytes::damage(&mut file, &mut random));
    }
    Mutant { bytes: file, damage }
}

fn choose(random: &mut Random) -> &'static Mutation {
    let total: usize = MUTATIONS.iter().map(|mutation| mutation.weight).sum();
    let mut left = random.below(total);
    MUTATIONS
        .iter()
        .find(|mutation| {
            let chosen = left < mutation.weight;
            left = left.saturating_sub(mutation.weight);
            chosen
        })
        // OK because `left` is below the sum of the weights.
        .expect("a mutation for every number")
}

/// Any message of `kind`.
fn any<'a>(model: &'a mut Message, kind: Kind, random: &mut Random) -> Option<&'a mut Message> {
    let position = random.below(model.count(kind));
    model.nth(kind, position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_are_made_again_from_their_numbers_and_differ() {
        let seed = std::fs::read(crate::hostile::root().join(SEEDS[0])).unwrap();
        let make = |number| mutant(Case { seed: 0, number }, &seed).bytes;
        assert!(make(7) == make(7));
        let mutants: std::collections::BTreeSet<Vec<u8>> = (0..200).map(make).collect();
        // A few change nothing, or the same.
        assert!(mutants.len() > 180, "{}", mutants.len());
    }

    #[test]
    fn every_mutation_changes_some_file() {
        for mutation in MUTATIONS {
            let changes = SEEDS.iter().any(|seed| {
                let file = std::fs::read(crate::hostile::root().join(seed)).unwrap();
                (0..20).any(|number| {
                    let mut model = Message::read(Kind::Model, &file).unwrap();
                    (mutation.apply)(&mut model, &mut Random::of(seed, number));
                    model.write() != file
                })
            });
            assert!(changes, "{}", mutation.name);
        }
    }
}
