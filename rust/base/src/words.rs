//! Enums whose variants have words, declared once.

/// Declares an enum of words: a line has a variant and its word. `ALL` and `NAMES` are in the order of the numbers.
#[macro_export]
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// The variants in the order of their numbers.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The words in the order of the numbers.
            pub const NAMES: [&'static str; Self::ALL.len()] = [$($word),+];

            /// The word.
            #[inline]
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}
