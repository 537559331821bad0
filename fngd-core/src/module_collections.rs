//! Collections of modules are modules.

use crate::module::Preconditioned;
use crate::{FngdModule, Path, Visitor};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// Pointers add nothing to the path. A module that is reached in two ways is reported twice, and trained once.
macro_rules! pointer {
    ($($pointer:ty),*) => {$(
        impl<T: FngdModule + ?Sized> FngdModule for $pointer {
            fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
                (**self).visit(path, visitor);
            }
        }

        impl<T: Preconditioned + ?Sized> Preconditioned for $pointer {}
    )*};
}

pointer!(Box<T>, Rc<T>, Arc<T>, &T);

impl<T: FngdModule> FngdModule for Option<T> {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        if let Some(module) = self {
            module.visit(path, visitor);
        }
    }
}

impl<T: Preconditioned> Preconditioned for Option<T> {}

impl<T: FngdModule> FngdModule for [T] {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        for (index, module) in self.iter().enumerate() {
            module.visit(&path.child(index), visitor);
        }
    }
}

impl<T: Preconditioned> Preconditioned for [T] {}

impl<T: FngdModule> FngdModule for Vec<T> {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self[..].visit(path, visitor);
    }
}

impl<T: Preconditioned> Preconditioned for Vec<T> {}

impl<T: FngdModule, const N: usize> FngdModule for [T; N] {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        self[..].visit(path, visitor);
    }
}

impl<T: Preconditioned, const N: usize> Preconditioned for [T; N] {}

/// In the order of the keys, which the path says. A `HashMap` has no order that every run keeps.
impl<T: FngdModule> FngdModule for BTreeMap<String, T> {
    fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
        for (name, module) in self {
            module.visit(&path.child(name), visitor);
        }
    }
}

impl<T: Preconditioned> Preconditioned for BTreeMap<String, T> {}

/// Nothing to train: for generic modules that only name a type.
impl<T: ?Sized> FngdModule for PhantomData<T> {
    fn visit(&self, _path: &Path, _visitor: &mut dyn Visitor) {}
}

/// Members are called `0`, `1` and so on. All of a marked tuple must have layers to precondition.
macro_rules! tuple {
    ($($module:ident $index:tt),*) => {
        impl<$($module: FngdModule),*> FngdModule for ($($module,)*) {
            fn visit(&self, path: &Path, visitor: &mut dyn Visitor) {
                $(self.$index.visit(&path.child($index), visitor);)*
            }
        }

        impl<$($module: Preconditioned),*> Preconditioned for ($($module,)*) {}
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
