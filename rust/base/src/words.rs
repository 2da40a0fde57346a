//! Enums whose variants are named by words in serialized text.

/// Declare an enum of words, one `Variant = "word"` a line. `ALL` and `NAMES` are in discriminant order.
#[macro_export]
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// All variants, in discriminant order.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// All words, in discriminant order.
            pub const NAMES: [&'static str; Self::ALL.len()] = [$($word),+];

            /// Word of the variant.
            #[inline]
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}
