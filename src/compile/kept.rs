//! What decides the products of compiling: the keys under which they are kept between runs.
//!
//! | product | decided by |
//! | --- | --- |
//! | a compiled model, its warnings | the model as loaded; of each model it reads what readers see; its sources |
//! | the verdict on a test | the test as declared; of each table it reads the columns |

use super::{CompiledModel, Compiler};
use crate::memo::{Key, KeyMaker};
use crate::names::TableName;
use crate::project::{DataTest, Model};

impl CompiledModel {
    /// What models that read this one can see of it.
    pub(super) fn key_for_readers(&self, model: &Model) -> Key {
        let config = &model.config;
        KeyMaker::new("read model")
            .value(&*self.schema)
            .value(&(&self.inputs, &self.definition, &self.volatile))
            .value(&(config.materialized, config.contract, &config.group, config.access, &config.event_time))
            .finish()
    }
}

impl Compiler<'_> {
    /// Everything that decides how a model compiles.
    pub(super) fn key_of_model(&self, model: &Model) -> Key {
        let mut key = KeyMaker::new("compiled model").key(model.key);
        for name in &model.refs {
            key = key.text(name.schema).text(name.table).key(self.done[name].key);
        }
        for (name, read) in &model.sources {
            key = key.value(&(name, read)).key(self.source_keys[name]);
        }
        key.finish()
    }

    /// Everything that decides whether a test can be planned; `None` if something it reads did not compile.
    pub(super) fn key_of_test(&self, test: &DataTest) -> Option<Key> {
        let mut key = KeyMaker::new("planned test").key(test.key);
        for name in &test.reads {
            key = key.key(self.key_of_table(name)?);
        }
        Some(key.finish())
    }

    /// What readers can see of a model or source, if it compiled.
    pub(super) fn key_of_table(&self, name: &TableName) -> Option<Key> {
        self.done.get(name).map(|model| model.key).or_else(|| self.source_keys.get(name).copied())
    }
}
