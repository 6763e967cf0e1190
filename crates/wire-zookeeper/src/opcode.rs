//! The numbers of requests, and the transaction ids (`xid`) that mean something.

#![allow(missing_docs)] // the names are the protocol's own

pub const CREATE: i32 = 1;
pub const DELETE: i32 = 2;
pub const EXISTS: i32 = 3;
pub const GET_DATA: i32 = 4;
pub const SET_DATA: i32 = 5;
pub const GET_ACL: i32 = 6;
pub const SET_ACL: i32 = 7;
pub const GET_CHILDREN: i32 = 8;
pub const SYNC: i32 = 9;
pub const PING: i32 = 11;
pub const GET_CHILDREN2: i32 = 12;
pub const CHECK: i32 = 13;
pub const MULTI: i32 = 14;
pub const CREATE2: i32 = 15;
pub const CHECK_WATCHES: i32 = 17;
pub const REMOVE_WATCHES: i32 = 18;
pub const CREATE_CONTAINER: i32 = 19;
pub const CREATE_TTL: i32 = 21;
pub const MULTI_READ: i32 = 22;
pub const AUTH: i32 = 100;
pub const SET_WATCHES: i32 = 101;
pub const SET_WATCHES2: i32 = 105;
pub const ADD_WATCH: i32 = 106;
pub const CLOSE_SESSION: i32 = -11;
/// An element of a multi's reply that failed; also the type in the header that ends a multi.
pub const ERROR: i32 = -1;

/// The `xid` of a watch's notification.
pub const NOTIFICATION_XID: i32 = -1;
/// The `xid` of a ping and its reply.
pub const PING_XID: i32 = -2;
/// The `xid` of an authentication and its reply.
pub const AUTH_XID: i32 = -4;
/// The `xid` that clients use for re-registering watches.
pub const SET_WATCHES_XID: i32 = -8;
