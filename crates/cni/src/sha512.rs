//! SHA-512 (FIPS 180-4), by which the reference names its chains. A dependency would be larger than it is.

/// The first 64 bits of the fractional parts of the cube roots of the first 80 primes.
const K: [u64; 80] = round_constants();
/// The same of the square roots of the first eight.
const INITIAL: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// Worked out rather than written down: the root is found bit by bit, its third power compared with the prime.
const fn round_constants() -> [u64; 80] {
    let mut constants = [0; 80];
    let (mut n, mut candidate) = (0, 2);
    while n < 80 {
        if is_prime(candidate) {
            constants[n] = cube_root_fraction(candidate);
            n += 1;
        }
        candidate += 1;
    }
    constants
}

const fn is_prime(number: u64) -> bool {
    let mut divisor = 2;
    while divisor * divisor <= number {
        if number.is_multiple_of(divisor) {
            return false;
        }
        divisor += 1;
    }
    true
}

/// The largest 67-bit `root` with `root³ <= number * 2^192`, without the bits before the point.
const fn cube_root_fraction(number: u64) -> u64 {
    let mut root: u128 = 0;
    let mut bit = 67;
    while bit > 0 {
        bit -= 1;
        let tried = root | 1 << bit;
        if cube_at_most(tried, number) {
            root = tried;
        }
    }
    root as u64
}

/// Whether `root³ <= number * 2^192`, in words of 32 bits.
const fn cube_at_most(root: u128, number: u64) -> bool {
    let words = [root as u32, (root >> 32) as u32, (root >> 64) as u32];
    let mut square = [0_u32; 6];
    multiply(&words, &words, &mut square);
    let mut cube = [0_u32; 9];
    multiply(&square, &words, &mut cube);
    let high = cube[6] as u128 | (cube[7] as u128) << 32 | (cube[8] as u128) << 64;
    let low_is_zero = cube[0] | cube[1] | cube[2] | cube[3] | cube[4] | cube[5] == 0;
    high < number as u128 || (high == number as u128 && low_is_zero)
}

const fn multiply(one: &[u32], other: &[u32], product: &mut [u32]) {
    let mut i = 0;
    while i < one.len() {
        let (mut j, mut carry) = (0, 0_u64);
        while j < other.len() {
            let sum = one[i] as u64 * other[j] as u64 + product[i + j] as u64 + carry;
            product[i + j] = sum as u32;
            carry = sum >> 32;
            j += 1;
        }
        if carry > 0 {
            product[i + j] = carry as u32;
        }
        i += 1;
    }
}

/// The digest in hexadecimal: 128 digits.
pub fn hex(message: &[u8]) -> String {
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 128 != 112 {
        padded.push(0);
    }
    padded.extend((message.len() as u128 * 8).to_be_bytes());
    let mut state = INITIAL;
    for block in padded.chunks_exact(128) {
        compress(&mut state, block);
    }
    state.iter().map(|word| format!("{word:016x}")).collect()
}

fn compress(state: &mut [u64; 8], block: &[u8]) {
    let mut w = [0_u64; 80];
    for (word, bytes) in w.iter_mut().zip(block.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    for t in 16..80 {
        let s0 = w[t - 15].rotate_right(1) ^ w[t - 15].rotate_right(8) ^ w[t - 15] >> 7;
        let s1 = w[t - 2].rotate_right(19) ^ w[t - 2].rotate_right(61) ^ w[t - 2] >> 6;
        w[t] = w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for t in 0..80 {
        let s1 = e.rotate_right(14) ^ e.rotate_right(18) ^ e.rotate_right(41);
        let choice = e & f ^ !e & g;
        let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(K[t]).wrapping_add(w[t]);
        let s0 = a.rotate_right(28) ^ a.rotate_right(34) ^ a.rotate_right(39);
        let majority = a & b ^ a & c ^ b & c;
        let t2 = s0.wrapping_add(majority);
        (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
        (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // FIPS 180-4's constants, first and last, and the examples of NIST.
        assert_eq!((K[0], K[79]), (0x428a_2f98_d728_ae22, 0x6c44_198c_4a47_5817));
        let examples = [
            (
                "",
                "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            ),
            (
                "abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (
                "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
                "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909",
            ),
        ];
        for (message, digest) in examples {
            assert_eq!(hex(message.as_bytes()), digest, "{message}");
        }
    }
}
