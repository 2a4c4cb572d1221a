//! What a column holds, in a few kilobytes, whatever its length: how many values, about how many different ones (HyperLogLog,
//! Flajolet and others 2007, with the estimator of Ertl 2017), quantiles (t-digest, Dunning 2019), the most common ones
//! (Misra and Gries 1982), how long texts are. Sketches of parts add up to that of the whole.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use datafusion_functions_aggregate_common::tdigest::{Centroid, TDigest};
use serde::{Deserialize, Serialize};

use super::hashes::{hash_function, row_hashes};

/// Of a hash, the bits that choose a register: 4,096 registers are off by 1.6 % in the middle.
const REGISTER_BITS: u32 = 12;
const REGISTERS: usize = 1 << REGISTER_BITS;

/// Registers are kept as text: this and what they hold is a printable character.
const FIRST_PRINTABLE: u8 = b'0';

/// Centroids of a digest: quantiles are off by about a hundredth.
const CENTROIDS: usize = 100;

/// Common values that are counted. A column of no more different values has all of them counted exactly.
const COMMON: usize = 64;

/// A longer text is cut when it is kept.
const LONGEST: usize = 100;

/// What is known of the values of a column.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sketch {
    /// The function that made the hashes.
    hash: u64,
    /// Values that are not NULL.
    pub values: u64,
    /// NULLs.
    pub nulls: u64,
    #[serde(with = "printable")]
    registers: Vec<u8>,
    digest: Option<Parts>,
    /// How long texts are, in characters.
    pub lengths: Option<Lengths>,
    common: BTreeMap<u64, Common>,
    /// How often all counts were lowered by one to make room: so much a count may be too small.
    lowered: u64,
}

/// Lengths of texts, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// The least.
    pub min: u64,
    /// The greatest.
    pub max: u64,
    sum: u64,
    texts: u64,
}

/// A value, and how often it was seen at least.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Common {
    value: String,
    count: u64,
    /// Its row in the batch at hand, until its text is made.
    #[serde(skip)]
    row: Option<usize>,
}

/// A digest on its way to text and back.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Parts {
    sum: f64,
    count: f64,
    max: f64,
    min: f64,
    centroids: Vec<(f64, f64)>,
}

impl From<&TDigest> for Parts {
    fn from(digest: &TDigest) -> Self {
        let centroids = digest.centroids().iter().map(|centroid| (centroid.mean(), centroid.weight())).collect();
        Self { sum: digest.sum(), count: digest.count(), max: digest.max(), min: digest.min(), centroids }
    }
}

impl Parts {
    fn digest(&self) -> Result<TDigest> {
        let centroids = self.centroids.iter().map(|(mean, weight)| Centroid::new(*mean, *weight)).collect();
        TDigest::try_from_parts(CENTROIDS, self.sum, self.count, self.max, self.min, centroids)
    }
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            hash: hash_function(),
            values: 0,
            nulls: 0,
            registers: vec![0; REGISTERS],
            digest: None,
            lengths: None,
            common: BTreeMap::new(),
            lowered: 0,
        }
    }
}

impl Sketch {
    /// Adds the values of an array.
    pub(super) fn update(&mut self, values: &ArrayRef) -> Result<()> {
        let nulls = values.null_count() as u64;
        self.nulls += nulls;
        self.values += values.len() as u64 - nulls;
        let hashes = row_hashes(values)?;
        let counts = is_counted(values.data_type());
        for (row, hash) in hashes.into_iter().enumerate().filter(|(row, _)| values.is_valid(*row)) {
            self.see(hash);
            if counts {
                self.count(hash, row);
            }
        }
        if counts {
            self.name_common(values)?;
        }
        self.measure(values)
    }

    fn see(&mut self, hash: u64) {
        let register = (hash >> (64 - REGISTER_BITS)) as usize;
        // The place of the first one among the other bits; a marker ends them.
        let rank = ((hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1))).leading_zeros() as u8 + 1;
        self.registers[register] = self.registers[register].max(rank);
    }

    fn count(&mut self, hash: u64, row: usize) {
        if let Some(common) = self.common.get_mut(&hash) {
            common.count += 1;
        } else if self.common.len() < COMMON {
            self.common.insert(hash, Common { value: String::new(), count: 1, row: Some(row) });
        } else {
            self.lowered += 1;
            self.common.retain(|_, common| {
                common.count -= 1;
                common.count > 0
            });
        }
    }

    /// Gives the values that are new among the common ones their text.
    fn name_common(&mut self, values: &ArrayRef) -> Result<()> {
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(values, &options)?;
        for common in self.common.values_mut() {
            if let Some(row) = common.row.take() {
                common.value = formatter.value(row).to_string().chars().take(LONGEST).collect();
            }
        }
        Ok(())
    }

    /// Adds numbers to the digest, and the lengths of texts.
    fn measure(&mut self, values: &ArrayRef) -> Result<()> {
        if values.data_type().is_numeric() {
            let numbers = cast(values, &DataType::Float64)?;
            let numbers: Vec<f64> =
                numbers.as_primitive::<Float64Type>().iter().flatten().filter(|number| number.is_finite()).collect();
            if !numbers.is_empty() {
                self.add_digest(&TDigest::new(CENTROIDS).merge_unsorted_f64(numbers))?;
            }
        } else if values.data_type().is_string() {
            let texts = cast(values, &DataType::Utf8)?;
            for text in texts.as_string::<i32>().iter().flatten() {
                let length = text.chars().count() as u64;
                self.add_lengths(Lengths { min: length, max: length, sum: length, texts: 1 });
            }
        }
        Ok(())
    }

    fn add_digest(&mut self, other: &TDigest) -> Result<()> {
        let merged = match &self.digest {
            Some(parts) => TDigest::merge_digests([&parts.digest()?, other]),
            None => other.clone(),
        };
        self.digest = Some(Parts::from(&merged));
        Ok(())
    }

    fn add_lengths(&mut self, other: Lengths) {
        self.lengths = Some(match self.lengths {
            None => other,
            Some(own) => Lengths {
                min: own.min.min(other.min),
                max: own.max.max(other.max),
                sum: own.sum + other.sum,
                texts: own.texts + other.texts,
            },
        });
    }

    /// Bytes that it takes, about.
    pub(super) fn size(&self) -> usize {
        REGISTERS + CENTROIDS * size_of::<(f64, f64)>() + COMMON * (size_of::<Common>() + LONGEST)
    }

    /// Whether the two can be added up: both were made by the same hash function.
    pub fn fits(&self, other: &Self) -> bool {
        self.hash == other.hash
    }

    /// Adds what another part of the column holds.
    ///
    /// # Errors
    /// When a digest is damaged.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.values += other.values;
        self.nulls += other.nulls;
        for (own, other) in self.registers.iter_mut().zip(&other.registers) {
            *own = (*own).max(*other);
        }
        if let Some(parts) = &other.digest {
            self.add_digest(&parts.digest()?)?;
        }
        if let Some(lengths) = other.lengths {
            self.add_lengths(lengths);
        }
        for (hash, common) in &other.common {
            let own = self.common.entry(*hash).or_insert_with(|| Common { count: 0, ..common.clone() });
            own.count += common.count;
        }
        self.lowered += other.lowered;
        if self.common.len() > COMMON {
            let mut counts: Vec<u64> = self.common.values().map(|common| common.count).collect();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            let least = counts[COMMON];
            self.lowered += least;
            self.common.retain(|_, common| {
                common.count = common.count.saturating_sub(least);
                common.count > 0
            });
        }
        Ok(())
    }

    /// How many different values there are, and whether that is exact.
    pub fn distinct(&self) -> (u64, bool) {
        if self.lowered == 0 && self.values > 0 && !self.common.is_empty() {
            return (self.common.len() as u64, true);
        }
        (self.estimate().min(self.values), self.values == 0)
    }

    fn estimate(&self) -> u64 {
        const RANKS: usize = 64 - REGISTER_BITS as usize;
        let m = REGISTERS as f64;
        let mut counts = [0_u32; RANKS + 2];
        self.registers.iter().for_each(|rank| counts[usize::from(*rank).min(RANKS + 1)] += 1);
        let mut z = m * tau(1.0 - f64::from(counts[RANKS + 1]) / m);
        for rank in (1..=RANKS).rev() {
            z = 0.5 * (z + f64::from(counts[rank]));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (0.5 / std::f64::consts::LN_2 * m * m / z).round() as u64
    }

    /// About the value below which this part of all numbers lies.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        Some(self.digest.as_ref()?.digest().ok()?.estimate_quantile(part))
    }

    /// The mean of all numbers.
    pub fn mean(&self) -> Option<f64> {
        self.digest.as_ref().filter(|digest| digest.count > 0.0).map(|digest| digest.sum / digest.count)
    }

    /// The most common values, the most common first, each with how often it is there at least; exact where there are few
    /// different ones. Values that are not common are none of them.
    pub fn most_common(&self, most: usize) -> Vec<(String, u64)> {
        let is_common = |common: &&Common| self.lowered == 0 || common.count > self.lowered;
        let mut found: Vec<_> =
            self.common.values().filter(is_common).map(|common| (common.value.clone(), common.count)).collect();
        found.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
        found.truncate(most);
        found
    }
}

impl Lengths {
    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.texts.max(1) as f64
    }
}

/// Whether values of a type may stand often enough to be counted.
fn is_counted(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_string()
        || data_type.is_decimal()
        || matches!(data_type, DataType::Boolean | DataType::Date32)
}

/// Of registers that no value has reached.
fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Of registers that are full.
fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Registers as text: one character each.
mod printable {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{FIRST_PRINTABLE, REGISTERS};

    pub(super) fn serialize<S: Serializer>(registers: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = registers.iter().map(|rank| char::from(rank + FIRST_PRINTABLE)).collect();
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let registers: Vec<u8> = text.bytes().map(|byte| byte.saturating_sub(FIRST_PRINTABLE)).collect();
        if registers.len() == REGISTERS { Ok(registers) } else { Err(D::Error::custom("registers are missing")) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    fn of(values: &[ArrayRef]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|values| sketch.update(values).unwrap());
        sketch
    }

    fn whole(range: std::ops::Range<i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(range))
    }

    #[test]
    fn different_values_are_counted_within_some_percent() {
        for size in [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000] {
            let (found, _) = of(&[whole(0..size), whole(0..size / 2)]).distinct();
            let off = (found as f64 - size as f64).abs() / size as f64;
            assert!(off < 0.05, "{found} of {size}");
        }
        assert_eq!(Sketch::default().distinct(), (0, true));
        assert_eq!(of(&[whole(0..50), whole(0..50)]).distinct(), (50, true));
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let all = of(&[whole(0..5000), whole(2000..9000)]);
        let mut parts = of(&[whole(0..5000)]);
        parts.merge(&of(&[whole(2000..9000)])).unwrap();
        assert_eq!((parts.values, parts.registers.clone()), (all.values, all.registers.clone()));
        let text = serde_json::to_string(&parts).unwrap();
        let read: Sketch = serde_json::from_str(&text).unwrap();
        assert!(read.fits(&parts) && read.distinct() == parts.distinct());
        // A number loses its last digit on the way to text and back.
        assert!((read.quantile(0.5).unwrap() - parts.quantile(0.5).unwrap()).abs() < 1e-6);
    }

    #[test]
    fn quantiles_mean_and_nulls_are_those_of_the_numbers() {
        let numbers: ArrayRef =
            Arc::new(Float64Array::from_iter((0..=1000).map(|n| (n % 4 != 3).then_some(f64::from(n)))));
        let sketch = of(&[numbers]);
        assert_eq!((sketch.values, sketch.nulls), (751, 250));
        assert!((sketch.quantile(0.5).unwrap() - 500.0).abs() < 10.0);
        assert!((sketch.quantile(0.05).unwrap() - 50.0).abs() < 10.0);
        assert!((sketch.mean().unwrap() - 500.0).abs() < 1.0);
    }

    #[test]
    fn common_values_are_found_among_many_rare_ones() {
        let mut texts: Vec<String> = (0..20_000).map(|n| format!("rare {n}")).collect();
        texts.extend(std::iter::repeat_n("web".to_owned(), 6_000));
        texts.extend(std::iter::repeat_n("app".to_owned(), 3_000));
        let mut random = 7_u64;
        for at in (1..texts.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            texts.swap(at, usize::try_from(random >> 33).unwrap() % (at + 1));
        }
        let batches: Vec<ArrayRef> =
            texts.chunks(1000).map(|some| Arc::new(StringArray::from(some.to_vec())) as ArrayRef).collect();
        let common: Vec<String> = of(&batches).most_common(5).into_iter().map(|(value, _)| value).collect();
        assert_eq!(common, ["web", "app"]);
        let few: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("a"), Some("ccc")]));
        let sketch = of(&[few]);
        let counted = |value: &str, count| (value.to_owned(), count);
        assert_eq!(sketch.most_common(2), [counted("a", 2), counted("b", 1)]);
        let lengths = sketch.lengths.unwrap();
        assert_eq!((lengths.min, lengths.max, lengths.mean(), sketch.distinct()), (1, 3, 1.5, (3, true)));
    }
}
