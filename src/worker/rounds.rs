//! The values of a round: our partial sum, the buckets we reduce, what the
//! others have reduced. Adds, packs and unpacks; decides nothing.

use std::sync::Arc;

use bytes::Bytes;

use super::sums::{BadSum, PackedSum, packed};
use super::trailer::{Shape, Trailer};
use crate::collective::{Bucket, Cut, PAYLOAD_LEN_MAX};
use crate::exact::{self, SumDigest, SumHash, Totals, UnpackError};
use crate::strategy::Partial;

/// A piece that is not what its header says; its sender is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadPiece {
    #[error("bucket {0} does not exist")]
    NoBucket(u32),
    #[error("a bucket of other values than ours")]
    OtherRange,
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// The values of the round at hand.
pub(super) struct Rounds {
    elements: usize,
    pub partial: Partial,
    /// What is reduced here and received reduced; the sum when complete.
    reduced: Vec<i64>,
    /// The trailer that the first member sums up, or the finished one.
    pub trailer: Option<Trailer>,
    /// The pieces of the finished sum as they went over the wire.
    pieces: PackedSum,
    cut: Cut,
    /// Takes in our partial while it is contributed, if it is to have a name.
    naming: Option<SumHash>,
}

/// Values per piece where one process packs a whole sum.
const PIECE: usize = 256 << 10;

impl Rounds {
    pub fn new(elements: usize) -> Rounds {
        Rounds {
            elements,
            partial: Partial::default(),
            reduced: Vec::new(),
            trailer: None,
            pieces: PackedSum::new(0),
            cut: cut(0, 1),
            naming: None,
        }
    }

    /// Nothing of this round has arrived yet.
    pub fn begin(&mut self, round: u64, values: usize, owners: usize) {
        self.cut = cut(values, owners);
        self.trailer = None;
        self.pieces = PackedSum::new(round);
        self.resize_reduced(values);
    }

    fn resize_reduced(&mut self, values: usize) {
        // Every value is written before it is read: no clearing.
        self.reduced.resize(values, 0);
    }

    pub fn cut(&self) -> &Cut {
        &self.cut
    }

    /// The `local`-th bucket of an owner.
    pub fn bucket(&self, owner: usize, local: u32) -> Option<Bucket> {
        self.cut.bucket(owner, local)
    }

    /// The bucket that a frame is about, if it is that owner's.
    pub fn piece(
        &self,
        owner: usize,
        index: u32,
        offset: u64,
        values: u32,
    ) -> Result<Bucket, BadPiece> {
        let bucket = self
            .cut
            .bucket(owner, index)
            .ok_or(BadPiece::NoBucket(index))?;
        if bucket.range.start as u64 != offset || bucket.range.len() != values as usize {
            return Err(BadPiece::OtherRange);
        }
        Ok(bucket)
    }

    /// What is contributed from now on gets a name.
    pub fn begin_naming(&mut self) {
        self.naming = Some(SumHash::new());
    }

    /// The name of our partial, all of which has been contributed. It depends on
    /// the order in which that was done.
    pub fn take_name(&mut self) -> Option<SumDigest> {
        let hash = self.naming.take()?;
        Some(hash.finish(&self.partial.totals))
    }

    fn contributed(&mut self, bucket: &Bucket) -> &[i64] {
        let own = &self.partial.sum[bucket.range.clone()];
        if let Some(naming) = &mut self.naming {
            naming.add(own);
        }
        own
    }

    /// Our partial's values of a bucket, for its owner.
    pub fn pack_partial(&mut self, bucket: &Bucket) -> Bytes {
        packed(self.contributed(bucket))
    }

    /// Adds our own part to one of our buckets.
    pub fn add_own(&mut self, bucket: &Bucket, untouched: bool) {
        self.contributed(bucket);
        let into = &mut self.reduced[bucket.range.clone()];
        let own = &self.partial.sum[bucket.range.clone()];
        if untouched {
            into.copy_from_slice(own);
        } else {
            into.iter_mut()
                .zip(own)
                .for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        }
    }

    /// Adds a peer's part to one of our buckets.
    pub fn add_peer(
        &mut self,
        bucket: &Bucket,
        untouched: bool,
        bytes: &[u8],
    ) -> Result<(), BadPiece> {
        let into = &mut self.reduced[bucket.range.clone()];
        if untouched {
            exact::unpack_into(bytes, into)?;
        } else {
            exact::unpack_add(bytes, into)?;
        }
        Ok(())
    }

    /// Packs one of our finished buckets, for everybody and to keep.
    pub fn pack_reduced(&mut self, bucket: &Bucket) -> Bytes {
        let bytes = packed(&self.reduced[bucket.range.clone()]);
        self.pieces.put(
            bucket.range.start as u64,
            bucket.range.len() as u32,
            bytes.clone(),
        );
        bytes
    }

    /// Stores an owner's finished bucket.
    pub fn store_reduced(&mut self, bucket: &Bucket, bytes: Bytes) -> Result<(), BadPiece> {
        exact::unpack_into(&bytes, &mut self.reduced[bucket.range.clone()])?;
        self.pieces
            .put(bucket.range.start as u64, bucket.range.len() as u32, bytes);
        Ok(())
    }

    /// The complete sum of the exchange, to be applied and to be kept.
    pub fn take_exchanged(&mut self) -> (Vec<i64>, Totals, Arc<PackedSum>) {
        let trailer = self.trailer.take().unwrap_or_else(|| {
            panic!("a sum is complete with its trailer");
        });
        let mut kept = std::mem::replace(&mut self.pieces, PackedSum::new(0));
        kept.trailer = trailer.to_bytes().into();
        (
            std::mem::take(&mut self.reduced),
            trailer.totals,
            Arc::new(kept),
        )
    }

    /// The only member's partial is the sum; `None` where it stayed with the replica.
    pub fn take_partial(&mut self) -> (Option<Vec<i64>>, Totals) {
        let partial = std::mem::take(&mut self.partial);
        ((!partial.resident).then_some(partial.sum), partial.totals)
    }

    /// A sum of this shape, over so many micro-batches, that came whole.
    pub fn unpack(
        &mut self,
        sum: &PackedSum,
        shape: Shape,
        micro_batches: u32,
    ) -> Result<(Vec<i64>, Totals), BadSum> {
        self.resize_reduced(shape.values);
        sum.unpack(&mut self.reduced)?;
        let trailer = Trailer::from_bytes(&sum.trailer)?;
        trailer.covers(shape, 0..micro_batches)?;
        Ok((std::mem::take(&mut self.reduced), trailer.totals))
    }

    /// The most that one peer's frames of a round can take.
    pub fn peer_bytes_max(&self) -> usize {
        sum_bytes_max(self.elements)
    }

    pub fn elements(&self) -> usize {
        self.elements
    }

    /// The buffer of an applied sum, for the next one; and, of an only member
    /// with followers, the sum in packed form.
    pub fn give_back(&mut self, sum: Vec<i64>) {
        if self.reduced.capacity() < sum.capacity() {
            self.reduced = sum;
        } else if self.partial.sum.capacity() < sum.capacity() {
            self.partial.sum = sum;
        }
    }

    /// Packs a whole sum.
    pub fn pack_all(round: u64, sum: &[i64], totals: Totals) -> PackedSum {
        PackedSum::pack(round, sum, &Trailer::new(totals), PIECE)
    }
}

/// The most that the frames of a whole sum of so many values can take.
pub(super) fn sum_bytes_max(elements: usize) -> usize {
    exact::max_packed_len(elements) + 2 * PAYLOAD_LEN_MAX
}

/// How a vector is cut, the same for everybody.
pub(super) fn cut(values: usize, owners: usize) -> Cut {
    let bucket = Cut::bucket_values_for(values, owners);
    Cut::new(values, owners, bucket)
        .unwrap_or_else(|| panic!("{values} values among {owners} owners can't be cut"))
}

/// Buckets of each owner, for the protocol's machine.
pub(super) fn bucket_counts(values: u64, owners: usize) -> Vec<u32> {
    let cut = cut(values as usize, owners);
    (0..owners)
        .map(|owner| cut.buckets(owner).count() as u32)
        .collect()
}
