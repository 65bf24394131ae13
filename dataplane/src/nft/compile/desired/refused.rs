//! Pieces that the kernel refused: they compile to what denies.

use std::collections::BTreeSet;

use super::super::Piece;
use super::Desired;
use crate::KernelError;
use crate::nft::name::Name;
use crate::nft::plan::{self, Op};
use crate::report::{Fault, Object};
use crate::state::SetId;

impl Desired {
    /// From now on the piece denies what it would decide about, until the state's object changes. False when that was
    /// so, or for what cannot be left out.
    pub(crate) fn refuse(&mut self, piece: &Piece, fault: Fault) -> bool {
        if *piece == Piece::Base || self.refused.contains_key(piece) {
            return false;
        }
        self.refused.insert(piece.clone(), fault);
        self.again.insert(piece.clone());
        true
    }

    /// The piece is compiled as the state says.
    pub(crate) fn forgive(&mut self, piece: &Piece) {
        if self.refused.remove(piece).is_some() {
            self.again.insert(piece.clone());
        }
    }

    /// All are compiled as the state says.
    pub(crate) fn forgive_all(&mut self) {
        self.refused_sets.clear();
        let refused = std::mem::take(&mut self.refused);
        self.again.extend(refused.into_keys());
    }

    /// The state's objects that deny, and why.
    pub(crate) fn refused(&self) -> Vec<(Object, Fault)> {
        let sets = self.refused_sets.iter();
        let sets = sets.map(|(id, error)| (Object::Set(id.clone()), Fault::Kernel(error.clone())));
        let pieces = self.refused.iter().flat_map(|(piece, fault)| {
            let objects = self.objects(piece);
            objects.into_iter().map(|object| (object, fault.clone()))
        });
        sets.chain(pieces).collect()
    }

    /// Whether the chain or set is desired.
    pub(crate) fn wants(&self, name: &Name) -> bool {
        self.chains.contains_key(name) || plan::wants_set(self, name)
    }

    /// The pieces that want what the operation makes.
    pub(crate) fn pieces(&self, op: &Op) -> Vec<Piece> {
        let wants = |output: &super::Output| match op {
            Op::NewChain(name, _) | Op::Flush(name) | Op::DelChain(name) => {
                output.chains.iter().any(|chain| chain.name == *name)
            }
            Op::NewRule { chain, .. } => output.chains.iter().any(|own| own.name == chain.name),
            Op::DelRule { chain, .. } => output.chains.iter().any(|own| own.name == *chain),
            Op::NewElements(name, all) | Op::DelElements(name, all) => {
                let mut own = output.elements.iter();
                uses(output, name) || own.any(|(set, one)| set == name && all.contains(one))
            }
            Op::NewSet(name, _) | Op::DelSet(name) => uses(output, name),
            Op::NewTable(_) | Op::DelTable(_) => false,
        };
        let outputs = self.outputs.iter();
        let pieces = outputs.filter(|(_, output)| wants(output));
        pieces.map(|(piece, _)| piece.clone()).collect()
    }

    /// The pieces that an operation which the kernel refused was for, and what to say of each.
    pub(crate) fn behind(&mut self, op: &Op, error: &KernelError) -> Vec<(Piece, Fault)> {
        let set = match op {
            Op::NewSet(name, _) | Op::NewElements(name, _) | Op::DelElements(name, _) => {
                self.variants.get(name).map(|(id, ..)| id.clone())
            }
            _ => None,
        };
        let fault = match &set {
            Some(id) => {
                self.refused_sets.insert(id.clone(), error.clone());
                let why = format!("denied: the kernel refused set {id}");
                Fault::Policy { why }
            }
            None => Fault::Kernel(error.clone()),
        };
        let pieces = self.pieces(op);
        pieces
            .into_iter()
            .map(|piece| (piece, fault.clone()))
            .collect()
    }

    /// Forgives what the state has changed since.
    pub(super) fn forgive_changed(&mut self, changed: &BTreeSet<Piece>) {
        self.refused.retain(|piece, _| !changed.contains(piece));
    }

    /// Forgives what was refused for the sake of a set that has changed.
    pub(super) fn forgive_set(&mut self, id: &SetId) {
        if self.refused_sets.remove(id).is_some() {
            let why = format!("denied: the kernel refused set {id}");
            let fault = Fault::Policy { why };
            let pieces: Vec<Piece> = self
                .refused
                .iter()
                .filter(|(_, other)| **other == fault)
                .map(|(piece, _)| piece.clone())
                .collect();
            for piece in pieces {
                self.forgive(&piece);
            }
        }
    }

    fn objects(&self, piece: &Piece) -> Vec<Object> {
        match piece {
            Piece::Base => vec![Object::HostRules],
            Piece::Workload(link) => vec![Object::Workload(link.clone())],
            Piece::Host(id) => vec![Object::HostEndpoint(id.clone())],
            Piece::Policy(id, _) => vec![Object::Policy(id.clone())],
            Piece::Profile(id, _) => vec![Object::Profile(id.clone())],
            // The endpoints that share it.
            Piece::Tier(..) => {
                let outputs = self.outputs.iter();
                let users = outputs.filter(|(_, output)| output.jumps_to.contains(piece));
                users.flat_map(|(user, _)| self.objects(user)).collect()
            }
        }
    }
}

fn uses(output: &super::Output, name: &Name) -> bool {
    let mut variants = output.variants.iter();
    output.fixed.iter().any(|set| set.name == *name)
        || variants.any(|(id, variant)| variant.name(id) == *name)
}
